"""The checkpoint that is converted: its quantized layers with their formats, and what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtcore.errors import ExportError, ModelError
from mtcore.files import TensorFile
from mtcore.formats import TensorFormat
from mtcore.formats.catalog import FP8, NVFP4
from mtcore.lint import Checkpoint, file_rules, open_checkpoint
from mtcore.numerics import QParams
from mtopt_hf.checkpoint.layer import LayerValues
from mtopt_hf.convert.formats import METHODS, Formats, formats_of, symmetric_twin
from mtopt_hf.convert.read import read_layer, reciprocal, zero_points
from mtopt_hf.ct.spelling import cache_arguments
from mtopt_hf.lint.config import Declared, mapping, text
from mtopt_hf.lint.rules import scales, tensors
from mtopt_hf.lint.view import Module, view_of

_MUST_HOLD = (
    *("tensor-missing", "dtype", "shape", "weight-shape", "weight-lost"),
    *("scale-nan", "scale-zero", "scale-infinite", "scale-empty"),
)
_CACHE = ("k_scale", "v_scale", "k_global_scale", "v_global_scale")
_SAID = ("num_bits", "type", "strategy", "group_size")
"""What tells the scheme of a cache from others."""


@dataclass(frozen=True)
class SourceLayer:
    """One quantized layer: its tensors by local name, and its formats."""

    module: Module
    formats: Formats


class Source:
    """A checkpoint directory, its layers read one at a time.

    Attributes:
        says: the quantization that it declares.
        layers: by name.
        refused: layers that cannot be converted, and why; empty where all can.
        cache: format of keys and values, or None.
    """

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ModelError: it is no whole checkpoint, or quantized in no way that is known here.
        """
        self.folder = folder
        checkpoint = open_checkpoint(folder)
        self.config: Mapping[str, Any] = checkpoint.config
        _check(checkpoint)
        self.says: Declared = view_of(checkpoint).says
        self._files = {name: TensorFile(folder / name) for name in checkpoint.files}
        self._where = {name: tensor.file for name, tensor in checkpoint.tensors.items()}
        self.layers: dict[str, SourceLayer] = {}
        self.refused: list[tuple[str, str]] = []
        for module in view_of(checkpoint).quantized:
            if any(part.startswith(("weight", "qweight")) for part in module.parts):
                self._add(module)
        self._settle_symmetry()
        self.cache = self._cache_format()
        self.dtype = _dtype(self.config)

    def tensor(self, name: str) -> Tensor:
        """A tensor as a view of its file."""
        return self._files[self._where[name]][name]

    def values(self, name: str) -> LayerValues:
        """Codes and scales of a layer."""
        formats = self.layers[name].formats
        return read_layer(self.says.method, self._parts(name), formats, self.dtype, self._version)

    def plain_names(self) -> list[str]:
        """Tensors that stay as they are: all that are no part of a quantized layer's codes and scales."""
        coded = {
            tensor.name
            for layer in self.layers.values()
            for local, tensor in layer.module.parts.items()
            if local not in ("bias", *_CACHE)
        }
        return [name for name in self._where if name not in coded and name.rpartition(".")[2] not in _CACHE]

    def cache_scales(self) -> dict[tuple[str, str], QParams]:
        """Scales of keys and values by (attention module, "k" or "v"); 1 where a cache is declared without any.

        Raises:
            ExportError: one of them is no scale.
        """
        if self.cache is None:
            return {}
        found: dict[tuple[str, str], QParams] = {}
        for name in self._where:
            module, _, local = name.rpartition(".")
            if local in _CACHE:
                attention = module.removesuffix(f".{local[0]}_proj")
                stored, divides = self.tensor(name).float(), local.endswith("_global_scale")
                if stored.numel() != 1 or not 0 < float(stored) < float("inf"):
                    raise ExportError([f"{name}: a scale of a cache is one finite number above zero"])
                found[attention, local[0]] = _cache_qparams(self.cache, stored, divides=divides)
        if found:
            return found
        projections = (name.rpartition(".")[0] for name in self._where)
        places = {name.rpartition(".")[::2] for name in projections if name.endswith((".k_proj", ".v_proj"))}
        cast = _cache_qparams(self.cache, torch.ones(()), divides=False)
        return {(attention, last[0]): cast for attention, last in sorted(places)}

    def _add(self, module: Module) -> None:
        try:
            if module.scheme is None:
                raise ModelError("no configuration says how it is stored")
            self.layers[module.name] = SourceLayer(module, formats_of(self.says, module.scheme))
        except ModelError as error:
            self.refused.append((module.name, str(error)))

    def _settle_symmetry(self) -> None:
        """Integers are symmetric where all zero points of all layers lie in the middle, whatever was declared."""
        integers = {n: one for n, one in self.layers.items() if one.formats.weight.zero_point is not None}
        try:
            middle = all(self._in_the_middle(name) for name in integers)
        except ModelError as error:
            self.refused.append((str(self.folder), str(error)))
            return
        for name, layer in integers.items() if middle else ():
            weight = symmetric_twin(layer.formats.weight)
            self.layers[name] = SourceLayer(layer.module, Formats(weight, layer.formats.input))

    def _in_the_middle(self, name: str) -> bool:
        bits = self.layers[name].formats.weight.element.bits
        zero = zero_points(self.says.method, self._parts(name), bits, self._version)
        return bool((zero == 1 << (bits - 1)).all())

    def _parts(self, name: str) -> dict[str, Tensor]:
        return {local: self.tensor(one.name) for local, one in self.layers[name].module.parts.items()}

    @property
    def _version(self) -> str:
        return text(self.says.body.get("checkpoint_format"))

    def _cache_format(self) -> TensorFormat | None:
        body = self.says.body
        scheme = body.get("kv_cache_scheme") or body.get("kv_cache_quant_algo")
        if not scheme:
            return None
        if mapping(scheme).get("num_bits") == 8 or text(scheme).upper() == "FP8":
            return FP8
        if text(scheme).upper() == "NVFP4" or _is_nvfp4(mapping(scheme)):
            return NVFP4
        why = f"scales of a KV cache in {scheme!r} are not converted; export the artifact anew"
        self.refused.append(("config.json", why))
        return None


def _is_nvfp4(scheme: Mapping[str, Any]) -> bool:
    return all(scheme.get(key) == value for key, value in cache_arguments(NVFP4).items() if key in _SAID)


def _cache_qparams(fmt: TensorFormat, stored: Tensor, *, divides: bool) -> QParams:
    """Scales of a cache from the one value that a file has.

    Of FP8 that is the scale. Of NVFP4 it is the divisor of the outer scale in compressed-tensors; in modelopt it is
    amax / 448, as for FP8 (see `mtopt_hf.modelopt.tensors.cache_scale`). Worked out in fp64, rounded once.
    """
    if fmt.outer is None:
        return QParams(fmt, stored.reshape(1, 1))
    outer = reciprocal(stored) if divides else _outer_of(stored, fmt)
    return QParams(fmt, torch.ones((1, 1)).to(torch.float8_e4m3fn), outer)


def _outer_of(stored: Tensor, fmt: TensorFormat) -> Tensor:
    return (stored.double() * FP8.target / fmt.outer_target).float().reshape(())


def _check(checkpoint: Checkpoint) -> None:
    """
    Raises:
        ExportError: files or scales are damaged, or quantized in no dialect that is known.
    """
    rules = [rule for rule in file_rules() if "error" in rule.severity.values()]
    rules += [rule for rule in (*tensors.RULES, *scales.RULES) if rule.name in _MUST_HOLD]
    found = [f"{hit.where}: {hit.why} ({rule.name})" for rule in rules for hit in rule.check(checkpoint)]
    says = view_of(checkpoint).says
    if not found and says.method not in METHODS:
        unknown = f"no dialect that can be converted ({says.word})"
        found = [unknown if says.word else "it is not quantized; quantize it first"]
    if found:
        raise ExportError([f"{checkpoint.folder}: {problem}" for problem in found[:20]])


def _dtype(config: Mapping[str, Any]) -> torch.dtype:
    named = text(config.get("dtype")) or text(config.get("torch_dtype")) or "bfloat16"
    found = getattr(torch, named.removeprefix("torch."), None)
    return found if isinstance(found, torch.dtype) else torch.bfloat16
