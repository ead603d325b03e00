"""Rows and tiles of 16-bit floats: held by one program, two numbers a register, until their scale is known."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import (
    amax_along,
    divider,
    larger,
    lifted,
    quotient,
    readable,
    round_units,
)
from mtopt_kernels.device.pairs import MAGNITUDES, halves, larger_pairs, paired, paired_codes
from mtopt_kernels.device.scale import multiplier, stored_scale


@triton.jit
def part_places(
    number, part, rows, cols, stride, grid_cols,
    HIGH: tl.constexpr, WIDE: tl.constexpr, PARTS: tl.constexpr, DOWN: tl.constexpr,
):  # fmt: skip
    """Where a part of a rectangle lies: its first pair, the offsets of HIGH x WIDE pairs, and which exist.

    The parts of a rectangle lie one below the other (DOWN) or side by side.
    """
    grid_row = number // grid_cols
    grid_col = number - grid_row * grid_cols
    row = (grid_row * PARTS + part if DOWN else grid_row) * HIGH
    col = (grid_col if DOWN else grid_col * PARTS + part) * WIDE
    down, within = tl.arange(0, HIGH), tl.arange(0, WIDE)
    mask = (row + down < rows)[:, None] & (col + within < cols)[None, :]
    return row.to(tl.int64) * stride + col, down[:, None].to(tl.int64) * stride + within[None, :], mask


@triton.jit
def largest_of(pairs, DTYPE: tl.constexpr):
    """The largest number of all pairs, fp32 [1, 1]; NaN if there is one."""
    low, high = halves(pairs, DTYPE)
    return amax_along(amax_along(larger(low, high), 1), 0) + tl.zeros((1, 1), tl.float32)


@triton.jit
def pairs_kernel(
    x_ptr,
    out_ptr,
    scale_ptr,
    rows,
    cols,
    row_stride,
    grid_cols,
    F: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    PARTS: tl.constexpr,
    DOWN: tl.constexpr,
    WHOLE: tl.constexpr,
    CODES: tl.constexpr,
):
    """Fake-quantize, or write codes of 8 bits and scales, with one scale for each rectangle of PARTS parts.

    `cols` and `row_stride` count pairs; the result is contiguous. WHOLE: no part reaches beyond the matrix.
    """
    number = tl.program_id(0)
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    x_ptr = x_ptr.to(tl.pointer_type(tl.int32))
    held = ()
    for part in tl.static_range(PARTS):
        base, offsets, mask = part_places(number, part, rows, cols, row_stride, grid_cols, HIGH, WIDE, PARTS, DOWN)
        if WHOLE:
            held += (tl.load(x_ptr + base + offsets),)
        else:
            held += (tl.load(x_ptr + base + offsets, mask=mask, other=0),)
    best = tl.zeros((HIGH, WIDE), tl.int32)
    for part in tl.static_range(PARTS):
        best = larger_pairs(best, held[part] & MAGNITUDES, DTYPE)
    stored = stored_scale(largest_of(best, DTYPE), 1.0, F)
    times = multiplier(stored, 1.0, F)
    by = divider(times, F)
    if CODES:
        tl.store(scale_ptr + number + tl.zeros((1, 1), tl.int32), stored.to(scale_ptr.dtype.element_ty))
        out_ptr = out_ptr.to(tl.pointer_type(tl.int16))
    else:
        out_ptr = out_ptr.to(tl.pointer_type(tl.int32))
    for part in tl.static_range(PARTS):
        low, high = halves(held[part], DTYPE)
        low, high = lifted(readable(low, F, False), by[0], F), lifted(readable(high, F, False), by[0], F)
        low_units = quotient(low, by[1], by[2], by[3], by[4], F, False)
        high_units = quotient(high, by[1], by[2], by[3], by[4], F, False)
        if CODES:
            result = paired_codes(low_units, low, high_units, high, times == times, F)
        else:
            result = paired(round_units(low_units, low, F) * times, round_units(high_units, high, F) * times, DTYPE)
        base, offsets, mask = part_places(number, part, rows, cols, cols, grid_cols, HIGH, WIDE, PARTS, DOWN)
        if WHOLE:
            tl.store(out_ptr + base + offsets, result)
        else:
            tl.store(out_ptr + base + offsets, result, mask=mask)
