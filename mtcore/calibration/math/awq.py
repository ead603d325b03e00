"""AWQ: the channel scales that protect what the activations make important, found on a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtcore.calibration.math.errors import output_error
from mtcore.calibration.math.smoothing import from_logs

Rounding = Callable[[Tensor], Tensor]
"""Fake-quantizes a weight matrix [rows, cols]."""

LayerError = Callable[[Tensor, Rounding, Tensor], Tensor]
"""From a weight [rows, cols], its rounding and scales [cols] to the error of the layer's outputs, fp32 []."""


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


def search_scales(
    layers: Sequence[tuple[Tensor, Rounding]],
    candidates: Sequence[tuple[float, Tensor]],
    error: LayerError,
) -> ScaleChoice:
    """The candidate with the least summed error over all layers that read one input.

    Args:
        layers: (weight fp32 [rows, cols], its rounding) each.
        candidates: (alpha, scales fp32 [cols]) each; "no scales" is always tried too, first.
        error: of one layer; `weight_error` needs no data.
    """
    ones = torch.ones_like(layers[0][0][0])
    tried = [(0.0, ones), *candidates]
    errors = torch.stack([sum_errors(layers, scales, error) for _, scales in tried])
    errors = torch.where(errors.isnan(), torch.inf, errors)
    winner = int(errors.argmin())  # the one wait for the device in a search
    alpha, scales = tried[winner]
    return ScaleChoice(scales, float(errors[winner]), float(errors[0]), alpha)


def sum_errors(layers: Sequence[tuple[Tensor, Rounding]], scales: Tensor, error: LayerError) -> Tensor:
    """The error of all layers under the same channel scales, fp32 []."""
    return torch.stack([error(weight, rounding, scales) for weight, rounding in layers]).sum()


def weight_error(hessian: Tensor) -> LayerError:
    """The error tr(D H Dᵀ) with D = Q(W · s) / s - W: only weights are rounded, and no data runs.

    Args:
        hessian: Σ x xᵀ of the unscaled input, fp32 [cols, cols].
    """

    def error(weight: Tensor, rounding: Rounding, scales: Tensor) -> Tensor:
        return output_error(rounding(weight * scales) / scales - weight, hessian)

    return error


def product_error(sample: Tensor, round_input: Rounding) -> LayerError:
    """The error |Q(x / s) Q(W · s)ᵀ - x Wᵀ|² over a sample of inputs: both factors are rounded.

    Args:
        sample: fp32 [tokens, cols].
        round_input: fake-quantizes activations [tokens, cols].
    """

    def error(weight: Tensor, rounding: Rounding, scales: Tensor) -> Tensor:
        rounded = round_input(sample / scales) @ rounding(weight * scales).T
        return (rounded - sample @ weight.T).square().sum()

    return error
