"""Gradients through rounding: straight-through, clipped, and with a learned amax (LSQ)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from mtcore.nn.views import spread_blocks, sum_blocks
from mtcore.numerics import QParams

Gradient = Literal["straight", "clipped"]
"""What flows back through a quantizer: `straight` passes everything (Bengio et al. 2013, arXiv:1308.3432);
`clipped` stops it for elements that the format's range cut off, as in PACT (Choi et al. 2018, arXiv:1805.06085)."""


def with_gradient(x: Tensor, fake: Tensor, qparams: QParams, gradient: Gradient, amax: Tensor | None) -> Tensor:
    """`fake`, with a gradient for x and, where `amax` is a learned parameter, for it.

    Args:
        x, fake: matrices [rows, cols]: the values and what they are quantized to.
        qparams: the scales that were used.
        gradient: how much of the gradient reaches x; with a learned amax it is clipped in any case.
        amax: [grid rows, grid cols], the learned magnitudes of the blocks, or None.
    """
    if amax is not None:
        inside = in_range(x.detach(), qparams)
        slope = amax_slope(x.detach(), fake, inside, qparams)
        learned: Tensor = _LearnedAmax.apply(x, amax, fake, inside, slope, qparams)  # type: ignore[no-untyped-call]
        return learned
    if gradient == "clipped":
        clipped: Tensor = _Clipped.apply(x, fake, in_range(x.detach(), qparams))  # type: ignore[no-untyped-call]
        return clipped
    straight: Tensor = _StraightThrough.apply(x, fake)  # type: ignore[no-untyped-call]
    return straight


def in_range(x: Tensor, qparams: QParams) -> Tensor:
    """Which elements of a matrix the format can represent without cutting them off: bool [rows, cols]."""
    element = qparams.format.element
    units = x.float() / _per_element(qparams.multiplier(), x, qparams)
    if qparams.zero_point is not None:
        units = units + _per_element(qparams.zero_point.float(), x, qparams)
    return (units >= element.min) & (units <= element.max)


def amax_slope(x: Tensor, fake: Tensor, inside: Tensor, qparams: QParams) -> Tensor:
    """d fake / d amax of its block, fp32 [rows, cols]: the rule of learned step sizes (LSQ).

    With step = amax / target and code = round(x / step), LSQ (Esser et al. 2020, arXiv:1902.08153, equation 3)
    says d fake / d step = code - x / step inside the range, and the largest or smallest code outside. Rounding of
    the scale itself is passed straight through, so d step / d amax = 1 / target.
    """
    residual = torch.where(inside, fake.float() - x.float(), fake.float())
    slope: Tensor = residual / _per_element(qparams.multiplier(), x, qparams) / qparams.format.target
    return slope


def _per_element(per_block: Tensor, x: Tensor, qparams: QParams) -> Tensor:
    rows, cols = x.shape
    return spread_blocks(per_block, rows, cols, *qparams.format.block.extents(rows, cols))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, fake: Tensor) -> Tensor:
        return fake.view_as(fake)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, fake: Tensor, inside: Tensor) -> Tensor:
        ctx.save_for_backward(inside)
        return fake.view_as(fake)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None


class _LearnedAmax(torch.autograd.Function):
    """The gradient of amax is scaled by 1 / sqrt(elements of a block · target), as LSQ's section 2.2 advises."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, amax: Tensor, fake: Tensor, inside: Tensor, slope: Tensor, qparams: QParams
    ) -> Tensor:
        ctx.save_for_backward(inside, slope)
        ctx.format = qparams.format
        return fake.view_as(fake)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        inside, slope = ctx.saved_tensors
        high, wide = ctx.format.block.extents(*slope.shape)
        damping = 1.0 / math.sqrt(high * wide * ctx.format.target)
        amax_grad = sum_blocks(grads[0].float() * slope, high, wide) * damping
        return grads[0] * inside, amax_grad, None, None, None, None
