"""The three operations: quantize, dequantize, and fake_quantize, which equals one after the other bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.numerics.bands import in_bands
from mtcore.numerics.blocks import from_blocks, to_blocks
from mtcore.numerics.cast import canonical_zero, decode, encode_canonical, round_canonical
from mtcore.numerics.pack import pack, unpack
from mtcore.numerics.qtensor import QTensor
from mtcore.numerics.scaling import QParams


def quantize(x: Tensor, qparams: QParams, shape: torch.Size | None = None) -> QTensor:
    """Quantize a matrix with given scales.

    Args:
        x: [rows, cols], any float dtype.
        qparams: scales whose grid fits the matrix.
        shape: of the tensor that the matrix views, kept for `dequantize`; the matrix's own where None.
    """
    rows, cols = x.shape
    fmt = qparams.format

    def packed(part: Tensor, grid_rows: slice) -> Tensor:
        codes = encode_canonical(_in_element_units(part, qparams.band(grid_rows)), fmt.element)
        return pack(from_blocks(codes, *part.shape).contiguous(), fmt.element.bits)

    qdata = in_bands(packed, x, fmt.block, rows)
    return QTensor(qdata, qparams, rows, cols, x.shape if shape is None else shape, x.dtype)


def dequantize(q: QTensor, dtype: torch.dtype | None = None) -> Tensor:
    """The values of a QTensor in its original shape, cast once to `dtype` (the original dtype where None)."""
    fmt = q.format

    def values(part: Tensor, grid_rows: slice) -> Tensor:
        codes = unpack(part, fmt.element.bits, q.cols)
        blocks = to_blocks(decode(codes, fmt.element), fmt.block)
        return from_blocks(_values(blocks, q.qparams.band(grid_rows)), len(part), q.cols).to(dtype or q.dtype)

    return in_bands(values, q.qdata, fmt.block, q.rows).reshape(q.shape)


def fake_quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Quantize and dequantize a matrix [rows, cols] without storing codes: same values, shape and dtype as x."""
    fmt = qparams.format

    def values(part: Tensor, grid_rows: slice) -> Tensor:
        band = qparams.band(grid_rows)
        rounded = round_canonical(_in_element_units(part, band), fmt.element)
        return from_blocks(_values(rounded, band), *part.shape).to(x.dtype)

    return in_bands(values, x, fmt.block, x.shape[0])


def _in_element_units(x: Tensor, qparams: QParams) -> Tensor:
    """x / multiplier + zero_point, fp32 in blocks [grid rows, high, grid cols, wide]."""
    element = qparams.format.element
    blocks = canonical_zero(to_blocks(x, qparams.format.block).float(), element)
    units = blocks / _spread(qparams.multiplier())
    if qparams.zero_point is None:
        return units
    return units.round_().nan_to_num_(nan=0.0).add_(_spread(qparams.zero_point.float()))


def _values(blocks: Tensor, qparams: QParams) -> Tensor:
    """What rounded element values mean: fp32 in blocks."""
    if qparams.zero_point is not None:
        blocks = blocks - _spread(qparams.zero_point.float())
    values = blocks * _spread(qparams.multiplier())
    via = qparams.format.via
    if via is None:
        return values
    assert qparams.scale_2 is not None
    return round_canonical(values / qparams.scale_2, via) * qparams.scale_2


def _spread(per_block: Tensor) -> Tensor:
    """[grid rows, grid cols] → [grid rows, 1, grid cols, 1], to meet blocks."""
    return per_block[:, None, :, None]
