"""Writing an artifact as a Hugging Face checkpoint in any dialect: a pure function of the artifact."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtcore.errors import ExportError
from mtcore.export import DEFAULT_SHARD_BYTES, Artifact, QuantizedModule, SourceFiles, natural_order, write_tensors
from mtcore.files import TensorSource, facts_of
from mtcore.plan import Plan
from mtopt_hf.checkpoint.attention import cache_slots, query_slots
from mtopt_hf.checkpoint.dialect import Contents, Dialect
from mtopt_hf.checkpoint.hub import WEIGHT, HubView, hub_view
from mtopt_hf.checkpoint.layer import Layer, LayerValues
from mtopt_hf.checkpoint.pairs import LINEAR, Pair, pairs_of
from mtopt_hf.checkpoint.some import some


def write_checkpoint(
    artifact: Artifact, folder: Path, dialect: Dialect, max_shard_bytes: int = DEFAULT_SHARD_BYTES
) -> None:
    """Write weights, config.json and companion files into an existing directory.

    The same artifact gives the same bytes. Tensors that share storage are written once; config.json tells clients
    to tie them. Of an artifact without quantized modules it writes what `save_pretrained` would.

    Raises:
        ExportError: a quantized weight is part of another tensor on the hub.
        OSError: the disk is full, say.
    """
    config = dict(artifact.source.config)
    view, cache = _view(artifact, dialect)
    files: Mapping[str, Any] = {}
    if artifact.modules:
        described = dialect.describe(_contents(artifact, view, dialect))
        config |= described.config
        files = described.files
    write_tensors(_AllTensors(artifact, view, cache, dialect), folder, max_shard_bytes)
    for name, content in {"config.json": config, **files}.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    artifact.source.write_files(folder)


def checkpoint_tensors(artifact: Artifact, dialect: Dialect) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint by their names in the file; coded ones are made when they are asked for.

    Raises:
        ExportError: a quantized weight is part of another tensor on the hub.
    """
    view, cache = _view(artifact, dialect)
    return _AllTensors(artifact, view, cache, dialect)


def source_problems(plan: Plan, source: SourceFiles, *, stacked: bool = False) -> Sequence[str]:
    """What only the model's configuration shows: quantized weights that the hub holds in another way.

    Args:
        stacked: see `Dialect`.
    """
    try:
        hub_view(source.config, {}, _pairs(plan), stacked=stacked)
    except ExportError as error:
        return error.problems
    return ()


def apart_problems(client: str, plan: Plan, source: SourceFiles) -> Sequence[str]:
    """Experts that are taken apart for servers, and which a client does not open so.

    Args:
        client: "hf" opens those that transformers takes apart itself, "vllm" all.
    """
    apart = hub_view(source.config, {}, _pairs(plan)).apart
    unread = [name for name, opened in apart.items() if client != "vllm" and not (client == "hf" and opened)]
    if not unread:
        return ()
    return [
        f"{some(unread)}: {client}: the hub keeps these experts in one tensor, and it does not open them one by one"
    ]


def apart_notes(plan: Plan, source: SourceFiles) -> Sequence[str]:
    """Experts that are not written as the hub has them."""
    apart = hub_view(source.config, {}, _pairs(plan)).apart
    readers = {
        True: "for vLLM, and transformers takes them apart too",
        False: "for vLLM and mtopt_hf.quantizer; transformers alone does not open them",
    }
    return [
        f"{some(names)}: experts that the hub keeps in one tensor are written one by one, {reader}"
        for opened, reader in readers.items()
        if (names := [name for name, own in apart.items() if own is opened])
    ]


def _view(artifact: Artifact, dialect: Dialect) -> tuple[HubView, dict[str, Tensor]]:
    """The model as the hub holds it, and the scales of its cache by their names there."""
    scales = _cache_scales(artifact, dialect)
    pairs = _pairs(artifact.plan)
    view = hub_view(artifact.source.config, artifact.tensors, pairs, scales, stacked=dialect.stacked)
    return view, {view.others[name]: scale for name, scale in scales.items()}


def _pairs(plan: Plan) -> tuple[Pair, ...]:
    return tuple(pair for module in plan.quantized for pair in pairs_of(module))


def _cache_scales(artifact: Artifact, dialect: Dialect) -> dict[str, Tensor]:
    """The scales of keys, values and queries, by the dialect's names on modules in memory."""
    slots = (*cache_slots(artifact.plan), *query_slots(artifact.plan, dialect.caches))
    found = [
        dialect.cache_scale(module.name, slot.slot, qparams)
        for module, slot in slots
        if (qparams := artifact.modules[module.name].activations.get(slot.slot)) is not None
    ]
    return dict(found)


def _contents(artifact: Artifact, view: HubView, dialect: Dialect) -> Contents:
    cached = cache_slots(artifact.plan)
    quantized = {name for layer in view.layers for name in (layer.name, layer.pair.module.name)}
    ignore = sorted(set(_unquantized(artifact, view)) - quantized, key=natural_order)
    return Contents(
        view.layers,
        tuple(ignore),
        cached[0][1].format if cached else None,
        _dtype_of(artifact, view),
        artifact.source.config,
        tuple(dict.fromkeys(module.type for module, _ in query_slots(artifact.plan, dialect.caches))),
    )


def _dtype_of(artifact: Artifact, view: HubView) -> torch.dtype:
    """The dtype of the first weight before it was quantized, or of the first floating tensor that stays."""
    if view.layers:
        first = view.layers[0]
        return first.values(artifact.modules[first.pair.module.name]).weight.dtype
    return next(tensor.dtype for tensor in artifact.tensors.values() if tensor.is_floating_point())


class _AllTensors(TensorSource):
    """The tensors of the file; those of a quantized layer are made when they are asked for, and not kept."""

    def __init__(self, artifact: Artifact, view: HubView, cache: Mapping[str, Tensor], dialect: Dialect) -> None:
        self._artifact, self._dialect = artifact, dialect
        self._last: QuantizedModule | None = None  # experts are many layers of one module, asked for in turn
        self._plain = {**view.tensors, **cache}
        self._coded: dict[str, tuple[Layer, str]] = {}
        self._facts: dict[str, tuple[torch.dtype, torch.Size]] = {}
        known: dict[object, dict[str, tuple[torch.dtype, torch.Size]]] = {}
        for layer in view.layers:
            values = self._values(layer)
            alike = (layer.spelled, values.kind)
            if alike not in known:
                empty = {local: make() for local, make in dialect.tensors(layer, values.on_meta()).items()}
                known[alike] = {local: (tensor.dtype, tensor.shape) for local, tensor in empty.items()}
            self._coded |= {f"{layer.name}.{local}": (layer, local) for local in known[alike]}
            self._facts |= {f"{layer.name}.{local}": facts for local, facts in known[alike].items()}
        assert not self._coded.keys() & self._plain.keys(), "a quantized weight that is also kept as it was"

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._coded:
            return self._plain[name]
        layer, local = self._coded[name]
        return self._dialect.tensors(layer, self._values(layer))[local]()

    def _values(self, layer: Layer) -> LayerValues:
        if self._last is None or self._last.plan.name != layer.pair.module.name:
            self._last = self._artifact.modules[layer.pair.module.name]
        return layer.values(self._last)

    def facts(self, name: str) -> tuple[torch.dtype, torch.Size]:
        return self._facts[name] if name in self._coded else facts_of(self._plain, name)

    def __iter__(self) -> Iterator[str]:
        yield from self._plain
        yield from self._coded

    def __len__(self) -> int:
        return len(self._plain) + len(self._coded)


def _unquantized(artifact: Artifact, view: HubView) -> Iterator[str]:
    """Modules with a matrix that stays, by their names on the hub; clients ignore exactly these.

    Linear layers also by their names in memory, which transformers compares, and classes that only the plan does
    not know, for they may be subclasses: routers are. Other classes it quantizes never.
    """
    for module in artifact.plan:
        unknown = module.spec is None and len(dict(module.shapes).get("weight", ())) == 2
        if not module.quantized and (module.spec == LINEAR or unknown):
            yield module.name
    for name, tensor in view.tensors.items():
        if name.endswith(WEIGHT) and tensor.dim() > 1:
            yield name.removesuffix(WEIGHT)
    for name, owner in artifact.tied.items():
        if name.endswith(WEIGHT) and artifact.tensors[owner].dim() > 1:
            yield name.removesuffix(WEIGHT)
