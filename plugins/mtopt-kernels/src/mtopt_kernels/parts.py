"""Room for work that is split among programs: sums of parts, and counters of how many are there."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

COUNTERS = 2**16
"""Tiles of a product, or strips of columns, that are split; each has a counter."""


@cache
def counters(device: torch.device) -> Tensor:
    """Zeros that every kernel leaves zero; shared by all kernels of one stream."""
    return torch.zeros(COUNTERS, dtype=torch.int32, device=device)


def room_for_parts(device: torch.device, elements: int, split: int) -> Tensor:
    """For the sums of all parts of all tiles."""
    return torch.empty(elements * split if split > 1 else 1, dtype=torch.float32, device=device)
