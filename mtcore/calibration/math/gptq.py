"""GPTQ: round a weight column by column, and let the columns to come make good for the error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtcore.calibration.math.columns import ColumnRounding
from mtcore.calibration.math.factors import inverse_factor
from mtcore.errors import FormatError
from mtcore.formats import WHOLE, TensorFormat
from mtcore.numerics import qparams_from_amax

Order = Literal["given", "importance", "blocks"]
"""In which order columns are rounded: as they stand; by falling diagonal of H (act-order); or the same block by
block, so that a block's columns stay together and its scales can be estimated when its turn comes."""

Estimate = Callable[[Tensor, slice], Tensor]
"""From the present values [rows, wide] of one block of columns, and where it stands, to its amax [grid rows, 1]."""


@dataclass(frozen=True)
class RoundedWeight:
    """`weight`: dequantized values, fp32 [rows, cols]; quantized again with `amax` they give the same codes.

    `amax`: fp32 [grid rows, grid cols].
    """

    weight: Tensor
    amax: Tensor


def gptq(
    weight: Tensor,
    hessian: Tensor,
    fmt: TensorFormat,
    amax: Tensor,
    outer_amax: Tensor | None = None,
    *,
    order: Order = "importance",
    damping: float = 0.01,
    step: int = 128,
    estimate: Estimate | None = None,
) -> RoundedWeight:
    """Round a weight so that tr((Q - W) H (Q - W)ᵀ) is small.

    Frantar et al. 2022, "GPTQ", arXiv:2210.17323, algorithm 1, with columns in any order and scales that belong to
    fixed blocks of columns, whatever the order.

    Args:
        weight: W, fp32 [rows, cols].
        hessian: H = Σ x xᵀ, fp32 [cols, cols], up to a factor.
        fmt: a symmetric format.
        amax: fp32 [grid rows, grid cols], the magnitudes that give the scales.
        outer_amax: fp32 [], for two-level formats.
        order: see `Order`.
        damping: this share of the mean of H's diagonal is added to the diagonal.
        step: columns after which the rest of the matrix is brought up to date.
        estimate: finds the scales of a block of columns when its turn comes, from values that already make good
            for earlier errors; needs order "blocks" or "given" and a format with blocks along columns. Where None,
            `amax` stays.

    Raises:
        CalibrationError: H is not finite, or no damping makes it positive definite.
        FormatError: `estimate` with a format or order that has no blocks of columns.
    """
    rows, cols = weight.shape
    wide = fmt.block.extents(rows, cols)[1]
    if estimate is not None and (order == "importance" or fmt.block.cols == WHOLE):
        raise FormatError(
            f"format {fmt.name!r}, order {order!r}: scales can be estimated on the way only where the columns of a "
            "block are rounded together (order blocks or given, and a format with blocks along the columns)"
        )
    importance = hessian.diagonal()
    columns = column_order(importance, wide, order)
    factor = inverse_factor(hessian[columns][:, columns], damping).to(weight.dtype)
    columns_list: list[int] = columns.tolist()
    pivots: list[float] = factor.diagonal().tolist()
    work = weight.T[columns].contiguous()  # one row a column, in the order of the work
    done = torch.empty_like(work)
    amax = amax.clone()
    column = ColumnRounding(qparams_from_amax(amax, fmt, outer_amax), rows, cols)
    seen = -1
    for start in range(0, cols, step):
        stop = min(start + step, cols)
        errors = torch.empty_like(work[start:stop])
        for i in range(start, stop):
            group = columns_list[i] // wide
            if estimate is not None and group != seen:
                where = slice(group * wide, min(group * wide + wide, cols))
                present = _present(work, errors, factor, start, i, stop, i + where.stop - where.start)
                unsorted = torch.empty_like(present)
                unsorted[columns[i : i + len(present)] - where.start] = present
                amax[:, group : group + 1] = estimate(unsorted.T, where)
                column = ColumnRounding(qparams_from_amax(amax, fmt, outer_amax), rows, cols)
                seen = group
            rounded = column(work[i], columns_list[i])
            error = (work[i] - rounded) / pivots[i]
            done[i] = rounded
            errors[i - start] = error
            if i + 1 < stop:
                work[i + 1 : stop].addr_(factor[i, i + 1 : stop], error, alpha=-1)
        work[stop:] -= factor[start:stop, stop:].T @ errors
    result = torch.empty_like(work)
    result[columns] = done
    return RoundedWeight(result.T.contiguous(), amax)


def column_order(importance: Tensor, wide: int, order: Order) -> Tensor:
    """The columns in the order of the work, int64 [cols]; `importance` is the diagonal of H.

    Example:
        >>> column_order(torch.tensor([1.0, 2.0, 9.0, 3.0]), 2, "blocks").tolist()
        [2, 3, 1, 0]
    """
    cols = len(importance)
    if order == "given":
        return torch.arange(cols, device=importance.device)
    falling = importance.argsort(descending=True, stable=True)
    if order == "importance":
        return falling
    group = torch.arange(cols, device=importance.device) // wide
    totals = torch.zeros(-(-cols // wide), dtype=torch.float64, device=importance.device)
    totals.index_add_(0, group, importance.double())
    rank = totals.argsort(descending=True, stable=True).argsort()
    return falling[rank[group[falling]].argsort(stable=True)]


def _present(work: Tensor, errors: Tensor, factor: Tensor, start: int, i: int, stop: int, end: int) -> Tensor:
    """Columns i … end of the work, with the errors of columns start … i made good for in all of them."""
    inside = work[i : min(stop, end)]
    if end <= stop:
        return inside
    beyond = work[stop:end] - factor[start:i, stop:end].T @ errors[: i - start]
    return torch.cat((inside, beyond))
