"""GPTQ: round a weight column by column, and let the columns to come make good for the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtcore.calibration.math.columns import multipliers_by_row
from mtcore.calibration.math.errors import diagonal_blocks
from mtcore.calibration.math.factors import inverse_factor
from mtcore.calibration.math.gptq_steps import BlockOrder, Estimate, EstimatingStep, FixedStep, steps
from mtcore.calibration.math.replay import Replay
from mtcore.errors import FormatError
from mtcore.formats import WHOLE, TensorFormat
from mtcore.numerics import qparams_from_amax

Order = Literal["given", "importance", "blocks"]
"""In which order columns are rounded: as they stand; by falling diagonal of H (act-order); or the same block by
block, so that a block's columns stay together and its scales can be estimated when its turn comes."""


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
    replay: Replay | None = None,
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
        step: columns after which the rest of the matrix is brought up to date; with `estimate`, whole blocks.
        estimate: finds the scales of a block of columns when its turn comes, from values that already make good
            for earlier errors; needs order "blocks" or "given" and a format with blocks along columns. Where None,
            `amax` stays.
        replay: runs the steps; kept from call to call it spares a GPU most launches.

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
    columns = column_order(hessian.diagonal(), wide, order)
    factor = inverse_factor(hessian[columns][:, columns], damping).to(weight.dtype)
    work = weight.T[columns].contiguous()  # one row a column, in the order of the work
    done = torch.empty_like(work)
    amax = amax.clone()
    outer = () if outer_amax is None else (outer_amax,)
    replay = Replay() if replay is None else replay
    if estimate is None:
        multipliers = multipliers_by_row(qparams_from_amax(amax, fmt, outer_amax), rows, cols)[columns // wide]
        sizes: tuple[int, ...] = (1,) * cols
    else:
        blocks = BlockOrder.of(columns, wide)
        hessians, sizes = diagonal_blocks(hessian, wide)[blocks.groups], blocks.sizes
    for part, within in steps(sizes, step):
        now, own = work[part], factor[part, part]
        if estimate is None:
            done[part], errors = replay(FixedStep(fmt), now, own, multipliers[part], *outer)
        else:
            todo = EstimatingStep(fmt, estimate, sizes[within])
            places = blocks.places[part] - part.start
            done[part], errors, found = replay(todo, now, own, hessians[within], places, *outer)
            amax[:, blocks.groups[within]] = found
        work[part.stop :] -= factor[part, part.stop :].T @ errors
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
