"""Calibration: launches of the kernels that serve it, for values, weights and rotations."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mtcore.backends import COLUMN_STATISTICS, HADAMARD
from mtcore.numerics import LOG_BINS
from mtopt_kernels.constants import known
from mtopt_kernels.cuts import block_tiles
from mtopt_kernels.device.counters import COARSE_COUNTERS, FINE_COUNTERS
from mtopt_kernels.kernels.columns import columns_kernel
from mtopt_kernels.kernels.hadamard import hadamard_kernel
from mtopt_kernels.kernels.sweep import sweep_kernel
from mtopt_kernels.launch import block_amax, on_grid, streamable
from mtopt_kernels.parts import counters
from mtopt_kernels.sizes import cdiv, power_of_two
from mtopt_kernels.start import processors, start


class Columns(NamedTuple):
    """How `columns_kernel` reads a matrix: rows and columns at once, warps of a program, and how many programs a
    multiprocessor has, about as many as it has registers and counters for at once: more would wait for these."""

    high: int
    wide: int
    warps: int
    together: int


COLUMNS = {
    (False, 0): Columns(16, 64, 4, 10),
    (True, 0): Columns(16, 64, 4, 8),
    (False, COARSE_COUNTERS): Columns(16, 128, 8, 5),
    (True, COARSE_COUNTERS): Columns(16, 64, 4, 5),
    (False, FINE_COUNTERS): Columns(16, 64, 8, 4),
    (True, FINE_COUNTERS): Columns(16, 64, 8, 4),
}
"""By what is asked for beside magnitudes: moments, and how many counters. The fastest of some 20 on an H100; with
FINE_COUNTERS, of which no others were tried, what keeps most warps and spills no register."""
COUNTED_ROWS = 1024
"""Of a strip of columns that are counted in a histogram before the next one's: programs are as many as fit then,
since each has counters to write in the end."""
MOST_PARTS = 128
"""Of a strip of columns, which one program joins."""
MOST_COLUMNS = 2**22
"""Of a matrix: a strip of 64 has one of 2^16 counters."""
LONGEST_STRETCH = 2**14
"""Elements of the longest Hadamard transform in a kernel."""


def column_statistics(x: Tensor, moments: bool, histogram: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `mtcore.backends.reference.column_statistics`; the kernel counts numbers of up to 32 bits."""
    if not x.numel() or x.shape[1] > MOST_COLUMNS or x.dtype == torch.float64:
        by_torch: tuple[Tensor, Tensor, Tensor, Tensor] = COLUMN_STATISTICS.reference(x, moments, histogram)
        return by_torch
    x = streamable(x)
    rows, cols = x.shape
    device, kept = x.device, 0
    if histogram:
        kept = COARSE_COUNTERS if x.dtype == torch.bfloat16 else FINE_COUNTERS
    high, wide, warps, together = COLUMNS[moments, kept]
    strips, together = cdiv(cols, wide), together * processors(device)
    parts = cdiv(rows, COUNTED_ROWS) if histogram else max(together // strips, 1)
    parts = min(parts, cdiv(rows, high), MOST_PARTS)
    steps = cdiv(cdiv(rows, high), 4 * parts) * 4
    parts = cdiv(rows, high * steps)
    programs = min(together, strips * parts) if histogram else strips * parts
    found = torch.empty((parts, 3 if moments else 1, cols), dtype=torch.float32, device=device)
    amax = torch.empty(cols, dtype=x.dtype, device=device)
    total, squares = (torch.empty(cols if moments else 0, dtype=torch.float32, device=device) for _ in range(2))
    counts = torch.zeros(LOG_BINS if histogram else 0, dtype=torch.int64, device=device)
    start(
        columns_kernel,
        programs,
        x,
        found,
        counters(device),
        amax,
        total,
        squares,
        counts,
        rows,
        cols,
        x.stride(0),
        strips,
        parts,
        steps,
        programs,
        parts * steps * high * strips * wide - rows * cols,
        kept // (32 * warps),
        high,
        wide,
        power_of_two(parts),
        moments,
        histogram,
        32 * warps,
        warps=warps,
    )
    return amax, total, squares, counts


def sweep_amax(
    x: Tensor,
    amax: Tensor,
    outer_amax: Tensor | None,
    importance: Tensor | None,
    below: int,
    above: int,
    format: str,
) -> Tensor:
    """See `mtcore.backends.reference.sweep_amax`."""
    fmt, constants = known(format)
    rows, cols = x.shape
    amax = on_grid(amax, fmt.block.grid(rows, cols))
    out = torch.empty_like(amax)
    if not x.numel():
        return out
    if fmt.outer is not None and outer_amax is None:
        outer_amax = block_amax(x, -1, -1)
    x, k = streamable(x), fmt.block.cols
    whole, tile, programs, grid_cols = block_tiles(rows, cols, k, contiguous=x.is_contiguous())
    start(
        sweep_kernel,
        programs,
        x,
        amax,
        outer_amax,
        None if importance is None else importance.float().contiguous(),
        out,
        rows * grid_cols,
        cols,
        x.stride(0),
        grid_cols,
        below,
        above,
        constants,
        k,
        k.bit_length() - 1,
        tile,
        whole,
        importance is not None,
        warps=4,
    )
    return out


def hadamard(x: Tensor, size: int, inverse: bool) -> Tensor:
    """See `mtcore.backends.reference.hadamard`. Powers of two have a kernel, and are their own inverse."""
    if not x.numel() or not 1 < size <= LONGEST_STRETCH or size & (size - 1) or x.shape[1] % size:
        by_torch: Tensor = HADAMARD.reference(x, size, inverse)
        return by_torch
    x = x.contiguous()
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    stretches, together = x.numel() // size, max(2048 // size, 1)
    start(
        hadamard_kernel,
        cdiv(stretches, together),
        x,
        out,
        stretches,
        1 / math.sqrt(size),
        size.bit_length() - 1,
        together,
        warps=min(max(size // 1024, 4), 16),
    )
    return out


def add_gram(total: Tensor, x: Tensor) -> None:
    """See `mtcore.backends.reference.add_gram`: torch's product, with fp32 sums, of the values as they are.

    What 16-bit numbers are multiplied to is exact in fp32, so tensor cores can take them.
    """
    torch.addmm(total, x.T, x, out_dtype=torch.float32, out=total)
