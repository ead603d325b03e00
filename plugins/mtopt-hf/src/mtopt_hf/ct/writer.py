"""Writing an artifact as a compressed-tensors checkpoint: a pure function of the artifact."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mtcore.export import Artifact
from mtcore.export.shards import DEFAULT_SHARD_BYTES, write_tensors
from mtopt_hf.ct.config import quantization_config
from mtopt_hf.ct.scheme import scheme_of
from mtopt_hf.ct.tensors import module_tensors, tensor_names
from mtopt_hf.hub_names import WEIGHT, HubView, hub_view


def write_checkpoint(artifact: Artifact, folder: Path, max_shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
    """Write weights, config.json and companion files into an existing directory.

    The same artifact gives the same bytes. Tensors that share storage are written once; config.json tells clients
    to tie them. Of an artifact without quantized modules it writes what `save_pretrained` would.

    Raises:
        ExportError: a quantized weight is part of another tensor on the hub.
        OSError: the disk is full, say.
    """
    config = dict(artifact.source.config)
    shapes = {module.name: dict(module.shapes)["weight"] for module in artifact.plan.quantized}
    view = hub_view(config, artifact.tensors, shapes)
    config |= _dtype(config, artifact)
    quantization = quantization_config(artifact.plan, _unquantized(artifact, view), view.modules.__getitem__)
    if quantization is not None:
        config["quantization_config"] = quantization
    write_tensors(_AllTensors(artifact, view), folder, max_shard_bytes)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    artifact.source.write_files(folder)


def checkpoint_tensors(artifact: Artifact) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint by their names in the file; coded ones are made when they are asked for.

    Raises:
        ExportError: a quantized weight is part of another tensor on the hub.
    """
    shapes = {module.name: dict(module.shapes)["weight"] for module in artifact.plan.quantized}
    return _AllTensors(artifact, hub_view(artifact.source.config, artifact.tensors, shapes))


class _AllTensors(Mapping[str, Tensor]):
    """The tensors of the file; those of a quantized module are made when they are asked for, and not kept."""

    def __init__(self, artifact: Artifact, view: HubView) -> None:
        self._artifact, self._plain = artifact, view.tensors
        self._coded = {
            f"{view.modules[module.name]}.{local}": (module.name, local)
            for module in artifact.plan.quantized
            for local in tensor_names(module)
        }
        assert not self._coded.keys() & self._plain.keys(), "a quantized weight that is also kept as it was"

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._coded:
            return self._plain[name]
        module, local = self._coded[name]
        return module_tensors(self._artifact.modules[module])[local]

    def __iter__(self) -> Iterator[str]:
        yield from self._plain
        yield from self._coded

    def __len__(self) -> int:
        return len(self._plain) + len(self._coded)


def _unquantized(artifact: Artifact, view: HubView) -> Iterator[str]:
    """Modules with a matrix that stays, by their names in memory and on the hub; clients ignore exactly these."""
    for module in artifact.plan:
        if not module.quantized and any(len(shape) > 1 for _, shape in module.shapes):
            yield module.name
    for name, tensor in view.tensors.items():
        if name.endswith(WEIGHT) and tensor.dim() > 1:
            yield name.removesuffix(WEIGHT)
    for name, owner in artifact.tied.items():
        if name.endswith(WEIGHT) and artifact.tensors[owner].dim() > 1:
            yield name.removesuffix(WEIGHT)


def _dtype(config: Mapping[str, Any], artifact: Artifact) -> dict[str, str]:
    """What config.json must say about the dtype to compute in.

    Where the source does not say, clients would guess it from the first tensor of the file. And with NVFP4 it is
    bf16 whatever the source says: transformers takes such weights to bf16, then fails in a model of another dtype.
    """
    if not artifact.modules:
        return {}
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    if any(scheme_of(module).layout == "nvfp4-pack-quantized" for module in artifact.plan.quantized):
        return {key: "bfloat16"}
    first = next(iter(artifact.modules.values())).weights["weight"].dtype
    return {} if key in config else {key: str(first).removeprefix("torch.")}
