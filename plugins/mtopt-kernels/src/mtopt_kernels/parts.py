"""Room for work that is split among programs: sums of parts, and counters of how many are there."""

from __future__ import annotations

import torch
from torch import Tensor

COUNTERS = 2**16
"""Tiles of a product, or strips of columns, that are split; each has a counter."""


_KEPT: dict[torch.device, Tensor] = {}


def counters(device: torch.device) -> Tensor:
    """Zeros that every kernel leaves zero; shared by all kernels of one stream.

    Where a CUDA graph is recorded before anything ran, making them zero is recorded too: these are its own.
    """
    kept = _KEPT.get(device)
    if kept is None:
        kept = torch.zeros(COUNTERS, dtype=torch.int32, device=device)
        if not capturing(device):
            _KEPT[device] = kept
    return kept


def capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is recorded, so that nothing runs yet."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def room_for_parts(device: torch.device, elements: int, split: int) -> Tensor:
    """For the sums of all parts of all tiles."""
    return torch.empty(elements * split if split > 1 else 1, dtype=torch.float32, device=device)
