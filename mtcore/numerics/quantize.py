"""The three operations: quantize, dequantize, and fake_quantize, which equals one after the other bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.numerics.blocks import from_blocks, to_blocks
from mtcore.numerics.cast import decode, encode, round_to_element
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
    codes = from_blocks(encode(_in_element_units(x, qparams), qparams.format.element), rows, cols)
    bits = qparams.format.element.bits
    qdata = codes.contiguous() if bits == 8 else pack(codes.contiguous(), bits)
    return QTensor(qdata, qparams, rows, cols, x.shape if shape is None else shape, x.dtype)


def dequantize(q: QTensor, dtype: torch.dtype | None = None) -> Tensor:
    """The values of a QTensor in its original shape, cast once to `dtype` (the original dtype where None)."""
    codes = unpack(q.qdata, q.format.element.bits, q.cols)
    blocks = to_blocks(decode(codes, q.format.element), q.format.block)
    return from_blocks(_multiply(blocks, q.qparams), q.rows, q.cols).to(dtype or q.dtype).reshape(q.shape)


def fake_quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Quantize and dequantize a matrix [rows, cols] without storing codes: same values, shape and dtype as x."""
    rounded = round_to_element(_in_element_units(x, qparams), qparams.format.element)
    return from_blocks(_multiply(rounded, qparams), *x.shape).to(x.dtype)


def _in_element_units(x: Tensor, qparams: QParams) -> Tensor:
    """x / multiplier + zero_point, fp32 in blocks [grid rows, high, grid cols, wide]."""
    units = to_blocks(x, qparams.format.block).float() / _spread(qparams.multiplier())
    if qparams.zero_point is None:
        return units
    return units.round() + _spread(qparams.zero_point.float())


def _multiply(blocks: Tensor, qparams: QParams) -> Tensor:
    if qparams.zero_point is not None:
        blocks = blocks - _spread(qparams.zero_point.float())
    return blocks * _spread(qparams.multiplier())


def _spread(per_block: Tensor) -> Tensor:
    """[grid rows, grid cols] → [grid rows, 1, grid cols, 1], to meet blocks."""
    return per_block[:, None, :, None]
