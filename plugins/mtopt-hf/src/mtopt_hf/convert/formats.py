"""From what a checkpoint says of a layer to the formats of its weight and input, by the dialects' own tables."""

from __future__ import annotations

from dataclasses import dataclass

from mtcore.errors import ModelError
from mtcore.formats import WHOLE, TensorFormat
from mtcore.formats.catalog import FP8_TILE, INT8_ROW, int_block, int_block_asym
from mtcore.recipe import Mode
from mtopt_hf.ct.spelling import SPELLINGS as CT
from mtopt_hf.ct.spelling import Spelling as CtSpelling
from mtopt_hf.formats import int_row, int_row_asym
from mtopt_hf.fp8.spelling import SPELLINGS as FP8
from mtopt_hf.lint.config import Declared, Scheme
from mtopt_hf.modelopt.spelling import SPELLINGS as MODELOPT

METHODS = ("compressed-tensors", "modelopt", "fp8", "gptq", "awq")
"""Dialects whose layers are read; the linter knows others."""

_WEIGHT = ("num_bits", "type", "strategy", "symmetric")
_INPUT = ("num_bits", "type", "strategy", "dynamic")


@dataclass(frozen=True)
class Formats:
    """Of the weight, and of the input with its mode; None where the input is not quantized."""

    weight: TensorFormat
    input: tuple[TensorFormat, Mode] | None = None


def formats_of(says: Declared, scheme: Scheme) -> Formats:
    """The formats of a layer.

    Raises:
        ModelError: mtcore has none for it.
    """
    match says.method:
        case "compressed-tensors":
            return _compressed_tensors(scheme)
        case "modelopt":
            return _modelopt(scheme)
        case "fp8":
            if scheme.weights.get("block_structure") == [FP8_TILE.block.rows, FP8_TILE.block.cols]:
                return Formats(FP8[0].weight, (FP8[0].input, FP8[0].mode))
            raise ModelError("fp8 without blocks of 128 x 128 has no counterpart")
        case "gptq" | "awq":
            return Formats(integers(scheme.bits, scheme.group, symmetric=False))
    raise ModelError(f"mtcore has no format for quant_method {says.word}")


def integers(bits: int, group: int | None, *, symmetric: bool) -> TensorFormat:
    """The format of integer weights with one scale for `group` columns, or for a whole row."""
    if group is not None:
        return int_block(bits, group) if symmetric else int_block_asym(bits, group)
    if symmetric:
        return INT8_ROW if bits == 8 else int_row(bits)
    return int_row_asym(bits)


def symmetric_twin(fmt: TensorFormat) -> TensorFormat:
    """The format of the same integers without zero points."""
    return integers(fmt.element.bits, None if fmt.block.cols == WHOLE else fmt.block.cols, symmetric=True)


def _compressed_tensors(scheme: Scheme) -> Formats:
    weight = next((known.format for known in CT if known.weight is not None and _is_weight(known, scheme)), None)
    if weight is None:
        raise ModelError(f"mtcore has no format for weights with {dict(scheme.weights)}")
    if scheme.inputs is None:
        return Formats(weight)
    for known in CT:
        for mode, arguments in known.activation.items():
            same = all(arguments.get(key) == scheme.inputs.get(key) for key in _INPUT)
            if same and arguments.get("group_size") == scheme.inputs.get("group_size"):
                return Formats(weight, (known.format, mode))
    raise ModelError(f"mtcore has no format for inputs with {dict(scheme.inputs)}")


def _is_weight(known: CtSpelling, scheme: Scheme) -> bool:
    assert known.weight is not None
    block = known.weight.get("block_structure") == scheme.weights.get("block_structure")
    size = known.weight.get("group_size") == scheme.group
    return block and size and all(known.weight.get(key) == scheme.weights.get(key, True) for key in _WEIGHT)


def _modelopt(scheme: Scheme) -> Formats:
    if any(scheme.kind == known.branched_algo for known in MODELOPT):
        raise ModelError(f"its low-rank branch ({scheme.kind}) has a place in modelopt only")
    for known in MODELOPT:
        if scheme.kind in (known.algo.upper(), known.scaled_algo) and known.group_size in (None, scheme.group):
            given = None if known.input is None or known.mode is None else (known.input, known.mode)
            return Formats(known.weight, given)
    raise ModelError(f"mtcore has no format for {scheme.kind}")
