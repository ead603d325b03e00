"""Statistics of columns: largest magnitudes, sums and a histogram, in one reading of the matrix."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.counters import LARGEST, cleared, counted, counter_of, flushed, reserved
from mtopt_kernels.device.element import INTERPRETED, amax_along, larger, widened


@triton.jit
def load_rows(x_ptr, row, down, col, within, rows, cols, row_stride):
    """Some rows of a strip; 0 outside the matrix."""
    mask = (row + down < rows)[:, None] & (col < cols)[None, :]
    return tl.load(x_ptr + row.to(tl.int64) * row_stride + within, mask=mask, other=0.0)


@triton.jit
def taken_in(x, best, total, squares, counters, counts_ptr, MOMENTS: tl.constexpr, HISTOGRAM: tl.constexpr):
    """What is known with some more rows."""
    if HISTOGRAM:
        if INTERPRETED:
            bin = tl.minimum(tl.maximum(2 * counter_of(x) - 1, 0), 2 * LARGEST - 2)
            tl.atomic_add(counts_ptr + bin, tl.full(bin.shape, 1, tl.int64))
        else:
            counted(counters, x)
    magnitude = tl.abs(widened(x))
    best = larger(best, magnitude)
    if MOMENTS:
        total += magnitude
        squares = tl.fma(magnitude, magnitude, squares)
    return best, total, squares


@triton.jit
def columns_kernel(
    x_ptr,
    parts_ptr,
    counts_ptr,
    rows,
    cols,
    row_stride,
    strips,
    steps,
    rounds,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    MOMENTS: tl.constexpr,
    HISTOGRAM: tl.constexpr,
    THREADS: tl.constexpr,
):
    """A program reads `steps` x HIGH rows of WIDE columns, and writes [amax, Σ |x|, Σ x²] of each of them.

    `parts_ptr`: fp32 [programs of a strip, 1 or 3, cols]. `counts_ptr`: see `device.counters`; what lies outside
    the matrix is counted as 0.
    """
    part = tl.program_id(0) // strips
    col = (tl.program_id(0) - part * strips) * WIDE + tl.arange(0, WIDE)
    first = part * (steps * HIGH)
    down = tl.arange(0, HIGH)
    within = down[:, None].to(tl.int64) * row_stride + col[None, :]
    best = tl.zeros((HIGH, WIDE), tl.float32)
    total, squares = tl.zeros((HIGH, WIDE), tl.float32), tl.zeros((HIGH, WIDE), tl.float32)
    counters = 0
    if HISTOGRAM and not INTERPRETED:
        counters = reserved(tl.program_id(0))
        cleared(counters, rounds, THREADS)
    for step in range(0, steps, 4):  # four loads are under way before the first is used
        row = first + step * HIGH
        x0 = load_rows(x_ptr, row, down, col, within, rows, cols, row_stride)
        x1 = load_rows(x_ptr, row + HIGH, down, col, within, rows, cols, row_stride)
        x2 = load_rows(x_ptr, row + 2 * HIGH, down, col, within, rows, cols, row_stride)
        x3 = load_rows(x_ptr, row + 3 * HIGH, down, col, within, rows, cols, row_stride)
        best, total, squares = taken_in(x0, best, total, squares, counters, counts_ptr, MOMENTS, HISTOGRAM)
        best, total, squares = taken_in(x1, best, total, squares, counters, counts_ptr, MOMENTS, HISTOGRAM)
        best, total, squares = taken_in(x2, best, total, squares, counters, counts_ptr, MOMENTS, HISTOGRAM)
        best, total, squares = taken_in(x3, best, total, squares, counters, counts_ptr, MOMENTS, HISTOGRAM)
    rows_of_parts: tl.constexpr = 3 if MOMENTS else 1
    parts_ptr += part.to(tl.int64) * rows_of_parts * cols
    tl.store(parts_ptr + col, amax_along(best, 0), mask=col < cols)
    if MOMENTS:
        tl.store(parts_ptr + cols + col, tl.sum(total, axis=0), mask=col < cols)
        tl.store(parts_ptr + 2 * cols + col, tl.sum(squares, axis=0), mask=col < cols)
    if HISTOGRAM and not INTERPRETED:
        flushed(counters, counts_ptr, rounds, THREADS)


@triton.jit
def join_columns_kernel(
    parts_ptr,
    amax_ptr,
    total_ptr,
    squares_ptr,
    counts_ptr,
    cols,
    parts,
    outside,
    PARTS: tl.constexpr,
    WIDE: tl.constexpr,
    MOMENTS: tl.constexpr,
    HISTOGRAM: tl.constexpr,
):
    """Join the parts, always in one order, and take the elements `outside` the matrix off the count of zeros."""
    col = tl.program_id(0) * WIDE + tl.arange(0, WIDE)
    mask = col < cols
    rows_of_parts: tl.constexpr = 3 if MOMENTS else 1
    number = tl.arange(0, PARTS)
    places = number[:, None] * (rows_of_parts * cols) + col[None, :]
    exists = (number < parts)[:, None] & mask[None, :]
    best = amax_along(tl.load(parts_ptr + places, mask=exists, other=0.0), 0)
    tl.store(amax_ptr + col, best.to(amax_ptr.dtype.element_ty), mask=mask)
    if MOMENTS:
        total = tl.sum(tl.load(parts_ptr + cols + places, mask=exists, other=0.0), axis=0)
        squares = tl.sum(tl.load(parts_ptr + 2 * cols + places, mask=exists, other=0.0), axis=0)
        tl.store(total_ptr + col, total, mask=mask)
        tl.store(squares_ptr + col, squares, mask=mask)
    if HISTOGRAM:
        first = tl.program_id(0) == 0
        tl.store(counts_ptr, tl.load(counts_ptr) - outside, mask=first)
