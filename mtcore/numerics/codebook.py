"""Code books: the nearest entry of a table, ties to the even index."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mtcore.formats import TableElement
from mtcore.numerics.compiling import compile_time_constant


def nearest_entry(x: Tensor, element: TableElement) -> Tensor:
    """The index of the entry nearest to each fp32 value, uint8; NaN counts as 0."""
    boundaries = torch.tensor(_boundaries(element), dtype=torch.float32, device=x.device)
    return torch.bucketize(torch.nan_to_num(x, nan=0.0), boundaries, out_int32=True).to(torch.uint8)


def entries(codes: Tensor, element: TableElement) -> Tensor:
    """The fp32 value of every index."""
    table = torch.tensor(element.table, dtype=torch.float32, device=codes.device)
    return table.index_select(0, codes.flatten().int()).view(codes.shape)


@compile_time_constant
def _boundaries(element: TableElement) -> list[float]:
    """For each entry but the last, the largest fp32 value that is still nearest to it."""
    table = np.array(element.table, dtype=np.float32).astype(np.float64)
    largest = []
    for index, middle in enumerate((table[1:] + table[:-1]) / 2):  # exact in binary64
        rounded = np.float32(middle)
        tie_goes_up = index % 2 == 1
        above = float(rounded) > middle or (float(rounded) == middle and tie_goes_up)
        largest.append(float(np.nextafter(rounded, np.float32(-np.inf)) if above else rounded))
    return largest
