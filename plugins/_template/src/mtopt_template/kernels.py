"""A kernel: the largest magnitude of every row, in one pass, on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.backends import KernelSpec, Use
from mtcore.formats import PER_ROW


def refuses(use: Use) -> str | None:
    """Why it cannot serve a use, or None."""
    if use.device.type != "cpu":
        return "runs on a CPU only"
    return None if use.format.block == PER_ROW else "one magnitude a row only"


def row_amax(x: Tensor, rows: int, cols: int) -> Tensor:
    """fp32 [rows of x, 1], as `mtcore.backends.reference.block_amax` gives it: the contract compares the bits."""
    if not x.shape[1]:
        return x.new_zeros(*PER_ROW.grid(*x.shape), dtype=torch.float32)
    low, high = torch.aminmax(x, dim=1, keepdim=True)
    return torch.maximum(-low, high).float().abs()


ROW_AMAX = KernelSpec("template.row_amax", "block_amax", refuses, row_amax, priority=10)
