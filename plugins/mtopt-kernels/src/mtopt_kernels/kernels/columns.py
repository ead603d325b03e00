"""Statistics of columns: largest magnitudes, sums and a histogram, in one reading of the matrix."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.counters import cleared, counted, flushed, reserved
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
        counted(counters, x, counts_ptr)
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
    ready_ptr,
    amax_ptr,
    total_ptr,
    squares_ptr,
    counts_ptr,
    rows,
    cols,
    row_stride,
    strips,
    parts,
    steps,
    programs,
    outside,
    rounds,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    PARTS: tl.constexpr,
    MOMENTS: tl.constexpr,
    HISTOGRAM: tl.constexpr,
    THREADS: tl.constexpr,
):
    """The amax, Σ |x| and Σ x² of columns, and how many values there are of each magnitude.

    A strip of WIDE columns is read in `parts` of `steps` x HIGH rows; who ends the last part of a strip joins them.

    Args:
        parts_ptr: fp32 [parts, 1 or 3, cols], for [amax, Σ |x|, Σ x²] of a part.
        ready_ptr: how many parts of a strip are there; 0 before and after.
        counts_ptr: see `device.counters`. What lies `outside` the matrix is counted as 0, and taken off.
        PARTS: a power of two, `parts` at least.
    """
    counters = 0
    if HISTOGRAM:
        first_bin = tl.arange(0, 1)
        once = (first_bin + tl.program_id(0)) == 0
        tl.atomic_add(counts_ptr + first_bin, first_bin.to(tl.int64) - outside, mask=once, sem="relaxed")
        if not INTERPRETED:
            counters = reserved(tl.program_id(0), x_ptr.dtype.element_ty)
            cleared(counters, rounds, THREADS)
    rows_of_parts: tl.constexpr = 3 if MOMENTS else 1
    for unit in range(tl.program_id(0), strips * parts, programs):
        part = unit // strips
        strip = unit - part * strips
        col = strip * WIDE + tl.arange(0, WIDE)
        first = part * (steps * HIGH)
        down = tl.arange(0, HIGH)
        within = down[:, None].to(tl.int64) * row_stride + col[None, :]
        best = tl.zeros((HIGH, WIDE), tl.float32)
        total, squares = tl.zeros((HIGH, WIDE), tl.float32), tl.zeros((HIGH, WIDE), tl.float32)
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
        place = parts_ptr + part.to(tl.int64) * rows_of_parts * cols + col
        tl.store(place, amax_along(best, 0), mask=col < cols)
        if MOMENTS:
            tl.store(place + cols, tl.sum(total, axis=0), mask=col < cols)
            tl.store(place + 2 * cols, tl.sum(squares, axis=0), mask=col < cols)
        tl.debug_barrier()
        if tl.atomic_add(ready_ptr + strip, 1, sem="acq_rel", scope="gpu") == parts - 1:
            amax = amax_along(parts_of(parts_ptr, 0, parts, col, cols, rows_of_parts, PARTS), 0)
            tl.store(amax_ptr + col, amax.to(amax_ptr.dtype.element_ty), mask=col < cols)
            if MOMENTS:
                sums = tl.sum(parts_of(parts_ptr, 1, parts, col, cols, rows_of_parts, PARTS), axis=0)
                tl.store(total_ptr + col, sums, mask=col < cols)
                sums = tl.sum(parts_of(parts_ptr, 2, parts, col, cols, rows_of_parts, PARTS), axis=0)
                tl.store(squares_ptr + col, sums, mask=col < cols)
            tl.store(ready_ptr + strip, 0)
    if HISTOGRAM and not INTERPRETED:
        flushed(counters, counts_ptr, rounds, THREADS, x_ptr.dtype.element_ty)


@triton.jit
def parts_of(parts_ptr, what, parts, col, cols, ROWS_OF_PARTS: tl.constexpr, PARTS: tl.constexpr):
    """What all parts of a strip found, [PARTS, columns]: joined in one order, whoever ended last."""
    number = tl.arange(0, PARTS)
    places = (number[:, None].to(tl.int64) * ROWS_OF_PARTS + what) * cols + col[None, :]
    exists = (number < parts)[:, None] & (col < cols)[None, :]
    return tl.load(parts_ptr + places, mask=exists, other=0.0, cache_modifier=".cg")  # not from a cache of its own
