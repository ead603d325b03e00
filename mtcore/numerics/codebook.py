"""Code books: the nearest entry of a table, ties to the even index."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.formats import TableElement


def nearest_entry(x: Tensor, element: TableElement) -> Tensor:
    """The index of the entry nearest to each fp32 value, uint8; NaN counts as 0."""
    return torch.bucketize(torch.nan_to_num(x, nan=0.0), _boundaries(element, x.device), out_int32=True).to(
        torch.uint8
    )


def entries(codes: Tensor, element: TableElement) -> Tensor:
    """The fp32 value of every index."""
    return _table(element, codes.device).index_select(0, codes.flatten().int()).view(codes.shape)


def _boundaries(element: TableElement, device: torch.device) -> Tensor:
    """For each entry but the last, the largest fp32 value that is still nearest to it: fp32 [entries - 1]."""
    table = _table(element, device).double()
    middle = (table[1:] + table[:-1]) / 2  # exact in binary64
    rounded = middle.float()
    tie_goes_up = torch.arange(len(middle), device=device) % 2 == 1
    above = (rounded > middle) | ((rounded == middle) & tie_goes_up)
    return torch.where(above, rounded.nextafter(torch.full_like(rounded, -torch.inf)), rounded)


def _table(element: TableElement, device: torch.device) -> Tensor:
    return torch.tensor(element.table, dtype=torch.float32, device=device)
