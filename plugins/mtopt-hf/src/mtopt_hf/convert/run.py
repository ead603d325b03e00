"""Converting a checkpoint to another dialect: tensor by tensor, all or nothing, with a proof for every layer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mtcore.errors import ExportError, ModelError, look_up
from mtcore.export import (
    DEFAULT_SHARD_BYTES,
    Exported,
    ExporterSpec,
    target_problems,
    whole_directory,
    write_tensors,
)
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtopt_hf.autoawq.dialect import AWQ
from mtopt_hf.checkpoint.dialect import Contents, Dialect
from mtopt_hf.checkpoint.layer import Layer, LayerValues
from mtopt_hf.checkpoint.pairs import LINEAR, pairs_of
from mtopt_hf.checkpoint.some import together
from mtopt_hf.convert.proof import LayerProof, prove
from mtopt_hf.convert.source import Source
from mtopt_hf.ct.dialect import COMPRESSED_TENSORS
from mtopt_hf.fp8.dialect import FP8
from mtopt_hf.gptq.dialect import GPTQ
from mtopt_hf.lint.config import MODELOPT_FILE
from mtopt_hf.load.directory import companions
from mtopt_hf.modelopt.dialect import MODELOPT

_HALVES = (AWQ.name, GPTQ.name)
DIALECTS = {dialect.name: dialect for dialect in (COMPRESSED_TENSORS, MODELOPT, FP8, AWQ, GPTQ)}


@dataclass(frozen=True)
class Conversion:
    """What was converted: from which dialect to which, the files, and a proof for each layer."""

    source: str
    dialect: str
    exported: Exported
    proofs: tuple[LayerProof, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "from": self.source,
            "to": self.dialect,
            "directory": str(self.exported.directory),
            "files": dict(self.exported.files),
            "identical": all(proof.holds for proof in self.proofs),
            "elements": sum(proof.elements for proof in self.proofs),
            "layers": [proof.to_json() for proof in self.proofs],
        }


def convert_checkpoint(
    folder: Path,
    name: str,
    out: Path,
    exporters: Mapping[str, ExporterSpec],
    *,
    overwrite: bool = False,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> Conversion:
    """Write a checkpoint in another dialect, where that loses nothing.

    One layer is in memory at a time. The new directory is read back and compared before it appears.

    Args:
        folder: the checkpoint.
        name: of the dialect to write.
        out: the directory to write; it appears whole, or not at all.
        exporters: of the registry; they say what a dialect can hold.

    Raises:
        UnknownNameError: no such dialect.
        ExportError: it is damaged, or what cannot be converted, layer by layer with the reason; or `out` exists,
            or is or holds the checkpoint.
    """
    dialect = look_up("dialect to convert to", name, DIALECTS)
    taken = target_problems(out, overwrite=overwrite, inputs=[("the checkpoint", folder)])
    if taken:
        raise ExportError(taken)
    source = Source(folder)
    if source.says.method == name:
        raise ExportError([f"{folder}: it is in the dialect {name} already"])
    if source.refused:
        raise ExportError(together(source.refused))
    plan, lost = _plan_of(source, dialect)
    problems = [*together(lost), *exporters[name].check(plan)]
    if problems:
        raise ExportError(problems)
    target = _Target(source, dialect, plan)
    with whole_directory(out, overwrite=overwrite) as place:
        write_tensors(target, place, max_shard_bytes)
        described = dialect.describe(target.contents)
        config = {key: value for key, value in source.config.items() if key != "quantization_config"}
        for file, content in {"config.json": {**config, **described.config}, **described.files}.items():
            (place / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        for file, path in companions(folder).items():
            if file != MODELOPT_FILE:
                (place / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, place / file)
        proofs = _proofs(source, Source(place), name)
        files = Exported.of(place).files
    return Conversion(source.says.method, name, Exported(out, files), proofs)


def _proofs(before: Source, after: Source, dialect: str) -> tuple[LayerProof, ...]:
    """
    Raises:
        ExportError: a layer is not the same.
    """
    if after.refused or after.layers.keys() != before.layers.keys():
        raise ExportError(together(after.refused) or ["the new files have other layers than the old ones"])
    proofs = tuple(prove(name, before.values(name), after.values(name)) for name in before.layers)
    lost = [proof for proof in proofs if not proof.holds]
    if lost:
        told = [(proof.layer, f"{_what(proof, dialect)}; nothing was written") for proof in lost]
        raise ExportError(together(told))
    return proofs


def _what(proof: LayerProof, dialect: str) -> str:
    if dialect in _HALVES and proof.codes and not proof.scales:
        return (
            f"its scales are no fp16 numbers, which {dialect} holds; `mtopt export ARTIFACT --to {dialect}` rounds "
            "them, and each weight moves by up to 2^-11 of itself"
        )
    wrong = [name for name in ("codes", "scales", "zero_points") if not getattr(proof, name)]
    named = ("outer_ulps", "input_ulps")
    apart = [f"{name} by {getattr(proof, name)}" for name in named if getattr(proof, name) > 1]
    return f"the dialect cannot hold its {' and '.join([*wrong, *apart])} exactly"


def _plan_of(source: Source, dialect: Dialect) -> tuple[Plan, list[tuple[str, str]]]:
    """The plan that would have led to the checkpoint, and what no check of a plan sees: values, and the cache."""
    modules: list[ModulePlan] = []
    problems: list[tuple[str, str]] = []
    for name in source.layers:
        try:
            values = source.values(name)
        except ModelError as error:
            problems.append((name, str(error)))
            continue
        if values.pre_quant_scale is not None and dialect is not MODELOPT:
            problems.append((name, f"its input is scaled (pre_quant_scale), which {dialect.name} cannot hold"))
        modules.append(_module(name, values, source))
    if source.cache is not None and dialect not in (COMPRESSED_TENSORS, MODELOPT):
        problems.append(("config.json", f"{dialect.name} has no place for a quantized KV cache"))
    return Plan("convert", tuple(modules), (), (), (), Coverage(0, 0, 0)), problems


class _Target(Mapping[str, Tensor]):
    """The tensors of the new checkpoint, made when they are asked for."""

    def __init__(self, source: Source, dialect: Dialect, plan: Plan) -> None:
        self._source, self._dialect = source, dialect
        self._layers = {module.name: Layer(module.name, pairs_of(module)[0]) for module in plan}
        self._coded = {
            f"{name}.{local}": (name, local)
            for name, layer in self._layers.items()
            for local in dialect.tensors(layer, source.values(name).on_meta())
        }
        self._plain = source.plain_names()
        self._caches = dict(
            dialect.cache_scale(attention, slot, qparams)
            for (attention, slot), qparams in source.cache_scales().items()
        )

    @property
    def contents(self) -> Contents:
        ignore = list(dict.fromkeys((*_unquantized(self._source), *self._plain_matrices())))
        kept = [name for name in ignore if name not in self._layers]
        layers = tuple(self._layers.values())
        return Contents(layers, tuple(kept), self._source.cache, self._source.dtype, self._source.config)

    def __getitem__(self, name: str) -> Tensor:
        if name in self._caches:
            return self._caches[name]
        if name not in self._coded:
            return self._source.tensor(name)
        layer, local = self._coded[name]
        return self._dialect.tensors(self._layers[layer], self._source.values(layer))[local]()

    def __iter__(self) -> Iterator[str]:
        yield from self._plain
        yield from self._coded
        yield from self._caches

    def __len__(self) -> int:
        return len(self._plain) + len(self._coded) + len(self._caches)

    def _plain_matrices(self) -> Iterator[str]:
        for name in self._plain:
            if name.endswith(".weight") and self._source.tensor(name).dim() > 1:
                yield name.removesuffix(".weight")


def _unquantized(source: Source) -> list[str]:
    """Entries of the old list that name modules exactly: names in memory among them."""
    return [entry for entry in source.says.ignore if not entry.startswith("re:") and "*" not in entry]


def _module(name: str, values: LayerValues, source: Source) -> ModulePlan:
    """The plan of a layer, as if it had been quantized here."""
    rule = f"{source.says.word} checkpoint"
    given = source.layers[name].formats.input
    slots = [SlotPlan("weight", values.weight.format, "static", rule)]
    slots += [] if given is None else [SlotPlan("input", given[0], given[1], rule)]
    shape = (values.weight.rows, values.weight.cols)
    scaled = values.pre_quant_scale is not None
    return ModulePlan(name, "Linear", LINEAR, (("weight", shape),), tuple(slots), rule, pre_quant_scale=scaled)
