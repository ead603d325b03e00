"""Learned rounding: weights that move by signed gradients, at most a given share of the distance between codes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mtcore.nn.views import spread_blocks
from mtcore.numerics import QParams


def code_distances(weight: Tensor, qparams: QParams) -> Tensor:
    """For every value the distance between the two neighbouring codes around it.

    Beyond the range of the format it is that of the last two codes.

    Args:
        weight: [rows, cols], any float dtype.
        qparams: its scales.

    Returns:
        fp32 [rows, cols].
    """
    rows, cols = weight.shape
    extents = qparams.format.block.extents(rows, cols)
    scale = spread_blocks(qparams.multiplier(), rows, cols, *extents)
    units = weight.float() / scale
    if qparams.zero_point is not None:
        units = units + spread_blocks(qparams.zero_point.float(), rows, cols, *extents)
    values = sorted({value for value in qparams.format.element.values if math.isfinite(value)})
    codes = torch.tensor(values, device=weight.device)
    above = torch.bucketize(units.contiguous(), codes).clamp(1, len(codes) - 1)
    distances: Tensor = (codes[above] - codes[above - 1]) * scale
    return distances


def falling_rates(reach: float, steps: int) -> Iterator[float]:
    """`steps` rates that fall in a straight line and sum to `reach`.

    So a value that takes steps of these sizes ends within `reach` of where it began, without a clamp. For a reach
    of 1/2 they are the rates of Cheng et al. 2023, "Optimize Weight Rounding via Signed Gradient Descent"
    (arXiv:2309.05516), section 3: 1 / steps at first, falling to nothing.

    Example:
        >>> [round(rate, 3) for rate in falling_rates(0.5, 4)]
        [0.2, 0.15, 0.1, 0.05]
    """
    whole = steps * (steps + 1) / 2
    for step in range(steps):
        yield reach * (steps - step) / whole


def signed_step(values: Tensor, gradient: Tensor, unit: Tensor, rate: float) -> None:
    """values -= rate · unit · sign(gradient), in place; where the gradient is zero or NaN nothing moves."""
    _move(values, gradient.sign(), unit, rate)


def scaled_step(values: Tensor, gradient: Tensor, unit: Tensor, rate: float) -> None:
    """values -= rate · unit · d, in place, with d = gradient over three times its root mean square, in [-1, 1].

    A value whose gradient is noise moves little, where a signed step moves all alike. No value moves farther than
    by a signed step.
    """
    size = gradient.square().mean().sqrt()
    _move(values, (gradient / (3.0 * size).clamp(min=1e-30)).clamp(-1, 1), unit, rate)


def _move(values: Tensor, direction: Tensor, unit: Tensor, rate: float) -> None:
    values.sub_((direction.nan_to_num(nan=0.0) * unit * rate).to(values.dtype))


def distribution_loss(exact: Tensor, changed: Tensor) -> Tensor:
    """Mean over tokens of the Kullback-Leibler divergence of two distributions given by logits [..., classes]."""
    classes = exact.shape[-1]
    target = exact.detach().reshape(-1, classes).float().log_softmax(-1)
    return F.kl_div(
        changed.reshape(-1, classes).float().log_softmax(-1), target, reduction="batchmean", log_target=True
    )


def relative_loss(exact: Tensor, changed: Tensor) -> Tensor:
    """Σ (changed - exact)² over Σ exact², so that losses of different blocks compare; fp32 []."""
    target = exact.detach().float()
    return (changed.float() - target).square().sum() / target.square().sum().clamp(min=1e-30)
