"""Room for work that is split among programs: sums of parts, and counters of how many are there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

COUNTERS = 2**16
"""Tiles of a product, or strips of columns, that are split; each has a counter."""


_KEPT: dict[torch.device, Tensor] = {}


def counters(device: torch.device) -> Tensor:
    """Zeros that every kernel leaves zero; shared by all kernels of one stream.

    Where a CUDA graph is recorded before anything ran, making them zero is recorded too: these are its own.
    Inductor runs what it will record in the graph's memory, where nothing may stay, but gives that to one thread:
    so another makes those that stay.
    """
    kept = _KEPT.get(device)
    if kept is None:
        if capturing(device):
            return _zeros(device)
        with ThreadPoolExecutor(1) as another:
            kept = _KEPT.setdefault(device, another.submit(_settled_zeros, device).result())
    return kept


def kept_counters(device: torch.device) -> Tensor | None:
    """Those that are shared; None before anything needed them."""
    return _KEPT.get(device)


def _settled_zeros(device: torch.device) -> Tensor:
    zeros = _zeros(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # before another stream reads them
    return zeros


def _zeros(device: torch.device) -> Tensor:
    return torch.zeros(COUNTERS, dtype=torch.int32, device=device)


def capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is recorded, so that nothing runs yet."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def room_for_parts(device: torch.device, elements: int, split: int) -> Tensor:
    """For the sums of all parts of all tiles."""
    return torch.empty(elements * split if split > 1 else 1, dtype=torch.float32, device=device)
