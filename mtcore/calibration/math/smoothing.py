"""Smoothing: how much of each channel's range moves from the activations into the weight."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtcore.errors import CalibrationError


def smoothing_scales(
    activation: Tensor, weight: Tensor, alpha: float, *, largest_ratio: float = 1e4, check: bool = True
) -> Tensor:
    """s_j = activation_j^alpha / weight_j^(1 - alpha), divided by its geometric mean.

    The layer becomes (x / s) (W · s)ᵀ. Xiao et al. 2022, "SmoothQuant", arXiv:2211.10438, equation 4.

    Args:
        activation: fp32 [cols], the largest magnitude (or another size) of every input channel.
        weight: fp32 [cols], the largest magnitude of every column of all weights that read the input.
        alpha: in [0, 1]; 0 evens out the weights, 1 the activations.
        largest_ratio: scales are kept within this factor of their mean, both ways.
        check: False where the caller looks at the sizes, at a time when waiting for the device costs less.

    Returns:
        fp32 [cols], positive. A channel that is zero on either side gets 1 times the mean: nothing is learned
        from it.

    Raises:
        CalibrationError: a size is negative, NaN or infinite.

    Example:
        >>> smoothing_scales(torch.tensor([4.0, 1.0]), torch.ones(2), 0.5)
        tensor([1.4142, 0.7071])
    """
    if check:
        sound = torch.stack([(sizes.isfinite() & (sizes >= 0)).all() for sizes in (activation, weight)])
        for name, good in zip(("activation", "weight"), sound.tolist(), strict=True):  # one wait for the device
            if not good:
                raise CalibrationError(f"smoothing: the {name} sizes hold negative, NaN or infinite values")
    known = (activation > 0) & (weight > 0)
    logs = alpha * activation.clamp(min=1e-30).log() - (1 - alpha) * weight.clamp(min=1e-30).log()
    return from_logs(logs, known, largest_ratio)


def from_logs(logs: Tensor, known: Tensor, largest_ratio: float = 1e4) -> Tensor:
    """exp(logs) over its geometric mean among `known` channels, kept within `largest_ratio`; 1 elsewhere.

    Args:
        logs: fp32 [..., cols].
        known: bool [cols].
    """
    mean = torch.where(known, logs, 0.0).sum(-1, keepdim=True) / known.sum().clamp(min=1)
    limit = math.log(largest_ratio)
    return torch.where(known, (logs - mean).clamp(-limit, limit), 0.0).exp()
