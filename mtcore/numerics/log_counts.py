"""Histograms of magnitudes on bins that do not depend on the data."""

from __future__ import annotations

import torch
from torch import Tensor

LOG_BINS = 64 * 256 + 1
"""Bin 0 holds magnitudes below 2^-32, zero included; then 256 bins an octave up to 2^32, and all beyond."""

_FIRST = (127 - 32) * 256
"""The upper 16 bits of an fp32 magnitude, one bit dropped less, count these steps: 256 an octave."""


def log_counts(x: Tensor) -> Tensor:
    """How many magnitudes lie in each bin of fixed edges, int64 [LOG_BINS]; NaN counts as the largest.

    The bins are those of an exponent and 8 mantissa bits: 0.4 % wide at most, and exact for bf16. As they do not
    depend on the data, counts of several tensors can be added, and nothing is read back.
    """
    bits = x.detach().float().abs().reshape(-1).view(torch.int32)
    bins = ((bits >> 15) - (_FIRST - 1)).clamp_(0, LOG_BINS - 1).long()
    return torch.zeros(LOG_BINS, dtype=torch.int64, device=x.device).scatter_add_(0, bins, torch.ones_like(bins))


def log_edges(device: torch.device | None = None) -> Tensor:
    """The lower edges of the bins of `log_counts`, and the upper edge of the last: fp32 [LOG_BINS + 1]."""
    bits = torch.arange(_FIRST, _FIRST + LOG_BINS, dtype=torch.int32, device=device) << 15
    return torch.cat((torch.zeros(1, device=device), bits.view(torch.float32)))
