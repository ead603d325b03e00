"""The operations in plain torch: thin wrappers of `mtcore.numerics` with the arguments that kernels take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mtcore import numerics
from mtcore.backends.keys import format_of_key
from mtcore.formats import Block, TensorFormat
from mtcore.numerics import (
    QParams,
    QTensor,
    dynamic_qparams,
    own_column_amax,
    qparams_from_amax,
    scale_search,
    tensor_amax,
)
from mtcore.numerics.hadamard import block_hadamard
from mtcore.numerics.log_counts import log_counts

NOTHING_2 = 0
"""Elements of the `scale_2` of a format that has no outer scale: an operation returns tensors only."""


def qparams_of(x: Tensor, amax: Tensor | None, outer_amax: Tensor | None, fmt: TensorFormat) -> QParams:
    """Scales from magnitudes where they are known, else from the matrix.

    Args:
        x: [rows, cols], any float dtype.
        amax: fp32 [grid rows, grid cols], the largest magnitude of each block; negative ones count as 0. None: x's.
        outer_amax: fp32 [], that of the tensor, for formats with two levels; None: x's.
        fmt: a symmetric format.
    """
    if amax is None:
        return dynamic_qparams(x, fmt, outer_amax)
    if outer_amax is None and fmt.outer is not None:
        outer_amax = tensor_amax(x)
    return qparams_from_amax(amax.detach().clamp(min=0), fmt, outer_amax)


def fake_quantize(x: Tensor, amax: Tensor | None, outer_amax: Tensor | None, format: str) -> Tensor:
    """x as `format` represents it: same shape and dtype. Arguments as in `qparams_of`."""
    return numerics.fake_quantize(x, qparams_of(x, amax, outer_amax, format_of_key(format)))


def quantize(
    x: Tensor, amax: Tensor | None, outer_amax: Tensor | None, format: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes and scales as `QTensor` holds them: qdata, scale, and scale_2 (no elements where there is none)."""
    q = numerics.quantize(x, qparams_of(x, amax, outer_amax, format_of_key(format)))
    scale_2 = q.qparams.scale_2
    none = torch.empty(NOTHING_2, device=x.device)
    # A result of an operation must not share memory with an argument or a constant.
    return q.qdata, q.qparams.scale.contiguous(), none if scale_2 is None else scale_2.clone()


def dequantize(
    qdata: Tensor, scale: Tensor, scale_2: Tensor | None, cols: int, dtype: torch.dtype, format: str
) -> Tensor:
    """The matrix [rows, cols] in `dtype` that codes and scales stand for."""
    return numerics.dequantize(_qtensor(qdata, scale, scale_2, cols, dtype, format))


def block_amax(x: Tensor, rows: int, cols: int) -> Tensor:
    """The largest magnitude of each block of `rows` × `cols` (-1: the whole axis), fp32 [grid rows, grid cols]."""
    return numerics.block_amax(x, Block(rows, cols)).contiguous()


def column_statistics(x: Tensor, moments: bool, histogram: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What calibration asks of a matrix [rows, cols], not empty, in one reading.

    Returns:
        The largest magnitude of each column, [cols] in the dtype of x, NaN where a column has one; Σ |x| and Σ x²
        of each column, fp32 [cols], no elements unless `moments`; and `log_counts` of the matrix, int64 [LOG_BINS],
        no elements unless `histogram`. A kernel may add up in another order.
    """
    total, squares = (x.new_empty((0,), dtype=torch.float32) for _ in range(2))
    if moments and x.is_cuda:  # one launch each
        total = torch.linalg.vector_norm(x, 1, dim=0, dtype=torch.float32)
        squares = torch.linalg.vector_norm(x, 2, dim=0, dtype=torch.float32).square()
    elif moments:
        total, squares = x.abs().sum(0, dtype=torch.float32), x.float().square().sum(0)
    counts = log_counts(x) if histogram else x.new_empty((0,), dtype=torch.int64)
    return own_column_amax(x), total, squares, counts


def add_gram(total: Tensor, x: Tensor) -> None:
    """Add xᵀ x to `total`, fp32 [cols, cols], in place; products and sums in fp32, in any order."""
    exact = x.float()
    total.addmm_(exact.T, exact)


def sweep_amax(
    x: Tensor,
    amax: Tensor,
    outer_amax: Tensor | None,
    importance: Tensor | None,
    below: int,
    above: int,
    format: str,
) -> Tensor:
    """See `mtcore.numerics.scale_search.sweep_amax`; the very candidate that is chosen there."""
    fmt = format_of_key(format)
    return scale_search.sweep_amax(x, fmt, amax, outer_amax, importance, below=below, above=above)


def hadamard(x: Tensor, size: int, inverse: bool) -> Tensor:
    """`block_hadamard` of x [rows, cols] in fp32: a new tensor; bit for bit where `size` is a power of two."""
    return block_hadamard(x.float(), size, inverse=inverse)


def linear(
    x: Tensor,
    qdata: Tensor,
    scale: Tensor,
    scale_2: Tensor | None,
    input_amax: Tensor | None,
    input_outer_amax: Tensor | None,
    bias: Tensor | None,
    features: int,
    format: str,
    input_format: str,
) -> Tensor:
    """x Wᵀ + bias with a stored weight: dequantized, in the dtype of x; and x fake-quantized where it has a format.

    Args:
        x: [tokens, in features].
        qdata, scale, scale_2: of the weight [out features, in features] in `format`.
        input_amax, input_outer_amax: calibrated magnitudes of x, as in `qparams_of`.
        bias: [out features] or None.
        features: how many; a kernel may keep the weight in a layout that does not show it.
        input_format: a format key; "" where x is not quantized.
    """
    weight = dequantize(qdata, scale, scale_2, x.shape[-1], x.dtype, format)
    if input_format:
        x = fake_quantize(x, input_amax, input_outer_amax, input_format)
    return F.linear(x, weight, bias)


def linears(
    x: Tensor,
    qdata: Sequence[Tensor],
    scale: Sequence[Tensor],
    scale_2: Sequence[Tensor | None],
    input_amax: Tensor | None,
    input_outer_amax: Tensor | None,
    bias: Sequence[Tensor | None],
    features: Sequence[int],
    format: str,
    input_format: str,
) -> list[Tensor]:
    """`linear` of one input with each of several weights, all in `format`; a kernel may add up in another order."""
    each = zip(qdata, scale, scale_2, bias, features, strict=True)
    return [
        linear(x, codes, scales, outer, input_amax, input_outer_amax, added, width, format, input_format)
        for codes, scales, outer, added, width in each
    ]


def _qtensor(
    qdata: Tensor, scale: Tensor, scale_2: Tensor | None, cols: int, dtype: torch.dtype, format: str
) -> QTensor:
    fmt = format_of_key(format)
    outer = None if scale_2 is None or fmt.outer is None else scale_2
    rows = qdata.shape[0]
    return QTensor(qdata, QParams(fmt, scale, outer), rows, cols, torch.Size((rows, cols)), dtype)
