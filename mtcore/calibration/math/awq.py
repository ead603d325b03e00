"""AWQ: the channel scales that protect what the activations make important, found on a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mtcore.calibration.math.smoothing import from_logs

Rounding = Callable[[Tensor], Tensor]
"""Fake-quantizes matrices [n, rows, cols], each by itself."""


@dataclass(frozen=True)
class ScaleChoice:
    """The winner of a search: its scales, fp32 [cols]; its error; and that of no scales at all."""

    scales: Tensor
    error: float
    unscaled_error: float
    alpha: float


def awq_scales(magnitude: Tensor, alpha: float) -> Tensor:
    """s = magnitude^alpha over its geometric mean (Lin et al. 2023, "AWQ", arXiv:2306.00978, equation 5).

    Args:
        magnitude: fp32 [cols], the mean |x| of every input channel; a channel never used gets 1.
    """
    return from_logs(alpha * magnitude.clamp(min=1e-30).log(), magnitude > 0)


def scale_candidates(mean: Tensor, amax: Tensor, size: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """The scales of AWQ and those of SmoothQuant, each for `grid` exponents up to 1; "no scales" comes first.

    They are those of `awq_scales` and `smoothing_scales`, worked out together and without waiting for the device.

    Args:
        mean, amax: fp32 [cols], mean |x| and largest |x| of every input channel.
        size: fp32 [cols], the largest magnitude of every column of the weights.

    Returns:
        Exponents [1 + 2 · grid] and scales, fp32 [1 + 2 · grid, cols].
    """
    alphas = torch.arange(1, grid + 1, device=mean.device)[:, None] / grid
    logs = {name: value.clamp(min=1e-30).log() for name, value in (("mean", mean), ("amax", amax), ("size", size))}
    plain = from_logs(alphas * logs["mean"], mean > 0)
    smooth = from_logs(alphas * logs["amax"] - (1 - alphas) * logs["size"], (amax > 0) & (size > 0))
    return torch.cat((alphas.new_zeros(1), alphas[:, 0], alphas[:, 0])), torch.cat(
        (torch.ones_like(mean)[None], plain, smooth)
    )


def product_errors(
    weight: Tensor, scales: Tensor, sample: Tensor, round_weights: Rounding, round_inputs: Rounding | None
) -> Tensor:
    """The errors |Q(x / s) Q(W · s)ᵀ - x Wᵀ|² over a sample of inputs, for several scales at once, fp32 [n].

    Args:
        weight: fp32 [rows, cols]; a part of the rows stands for all.
        scales: fp32 [n, cols].
        sample: fp32 [tokens, cols].
        round_weights, round_inputs: how the two factors are rounded; None: inputs are not.
    """
    rounded = round_weights(weight * scales[:, None])
    if round_inputs is None:  # then it is |x (Q(W · s) / s - W)ᵀ|²
        difference = rounded.div_(scales[:, None]).sub_(weight)  # what was rounded is no one else's
        return (difference.flatten(0, 1) @ sample.T).square().view(len(scales), -1).sum(1)
    products = round_inputs(sample / scales[:, None]) @ rounded.mT
    return (products - sample @ weight.T).square().sum(dim=(1, 2))
