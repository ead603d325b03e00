"""Rectangles: formats with one scale a tile, a row (channel, token) or the whole matrix."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import (
    amax_along,
    cast,
    decode_element,
    divider,
    encode_units,
    lifted,
    quotient,
    readable,
    round_units,
)
from mtopt_kernels.device.scale import multiplier, stored_scale


@triton.jit
def rectangle_places(number, rows, cols, row_stride, grid_cols, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """Where the HIGH x WIDE elements of a rectangle lie: rows, element offset, offsets within, and what exists."""
    grid_row = number // grid_cols
    first_col = (number - grid_row * grid_cols).to(tl.int64) * WIDE
    row = grid_row * HIGH + tl.arange(0, HIGH)
    within = tl.arange(0, WIDE)
    mask = (row < rows)[:, None] & (first_col + within < cols)[None, :]
    base = grid_row.to(tl.int64) * HIGH * row_stride + first_col
    return row, base, tl.arange(0, HIGH)[:, None].to(tl.int64) * row_stride + within[None, :], mask


@triton.jit
def scale_places(number, row, rows, SHARED: tl.constexpr):
    """Where the scales of a rectangle lie, one for each row or one in all; which exist, and which it must write."""
    if SHARED == "row":
        return row, row < rows, row < rows
    else:
        one = tl.arange(0, 1)
        place = one + number if SHARED == "tile" else one
        return place, one == 0, one + (number if SHARED == "tensor" else 0) == 0


@triton.jit
def rectangles_kernel(
    x_ptr,
    amax_ptr,
    out_ptr,
    scale_ptr,
    rows,
    cols,
    row_stride,
    grid_cols,
    F: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    SHARED: tl.constexpr,
    GIVEN: tl.constexpr,
    CODES: tl.constexpr,
):
    """Fake-quantize, or write codes and scales. Elements of 8 bits, or any fake; the result is contiguous.

    SHARED: who has one scale: every "tile", that is rectangle, every "row", or the "tensor". GIVEN: its largest
    magnitude is; else it is found, for which a rectangle must hold whole rows or be the tile.
    """
    number = tl.program_id(0)
    row, base, offsets, mask = rectangle_places(number, rows, cols, row_stride, grid_cols, HIGH, WIDE)
    x = tl.load(x_ptr + base + offsets, mask=mask, other=0.0)
    place, exists, writes = scale_places(number, row, rows, SHARED)
    if GIVEN:
        amax = tl.load(amax_ptr + place, mask=exists, other=0.0)
        amax = tl.where(amax < 0.0, 0.0, amax)
    else:
        amax = amax_along(x, 1)
        if SHARED == "tile":
            amax = tl.zeros((1,), tl.float32) + amax_along(amax, 0)
    stored = stored_scale(amax, 1.0, F)
    times = multiplier(stored, 1.0, F)
    power, divisor, inverse, high, low = divider(times, F)
    x = readable(x, F, GIVEN)
    x = lifted(x, power[:, None], F)
    units = quotient(x, divisor[:, None], inverse[:, None], high[:, None], low[:, None], F, GIVEN)
    row, base, offsets, mask = rectangle_places(number, rows, cols, cols, grid_cols, HIGH, WIDE)
    if CODES:
        tl.store(scale_ptr + place, stored.to(scale_ptr.dtype.element_ty), mask=writes)
        codes = encode_units(units, x, (times == times)[:, None], F)
        tl.store(out_ptr + base + offsets, codes.to(tl.uint8), mask=mask)
    else:
        values = round_units(units, x, F) * times[:, None]
        tl.store(out_ptr + base + offsets, cast(values, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def dequantize_rectangles_kernel(
    codes_ptr,
    scale_ptr,
    out_ptr,
    rows,
    cols,
    grid_cols,
    F: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    SHARED: tl.constexpr,
):
    """The values of stored codes of 8 bits; both matrices are contiguous."""
    number = tl.program_id(0)
    row, base, offsets, mask = rectangle_places(number, rows, cols, cols, grid_cols, HIGH, WIDE)
    place, exists, _ = scale_places(number, row, rows, SHARED)
    stored = tl.load(scale_ptr + place, mask=exists, other=0)
    if F.scale != "fp32":
        stored = stored.to(tl.int32)
    times = multiplier(stored, 1.0, F)
    codes = tl.load(codes_ptr + base + offsets, mask=mask, other=0).to(tl.int32)
    values = decode_element(codes, F) * times[:, None]
    tl.store(out_ptr + base + offsets, cast(values, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def tiles_amax_kernel(x_ptr, out_ptr, rows, cols, row_stride, grid_cols, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """The amax of each tile."""
    _, base, offsets, mask = rectangle_places(tl.program_id(0), rows, cols, row_stride, grid_cols, HIGH, WIDE)
    x = tl.load(x_ptr + base + offsets, mask=mask, other=0.0)
    tl.store(out_ptr + tl.program_id(0), amax_along(amax_along(x, 1), 0))
