"""Tiles: one scale for a rectangle of HIGH x WIDE elements of a matrix (FP8 128x128)."""

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
def tile_places(rows, cols, row_stride, grid_cols, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """Where this program's tile lies: its offset in elements, offsets within, and which elements exist."""
    pid = tl.program_id(0)
    grid_row = pid // grid_cols
    grid_col = pid - grid_row * grid_cols
    row, col = tl.arange(0, HIGH), tl.arange(0, WIDE)
    mask = (grid_row * HIGH + row < rows)[:, None] & (grid_col * WIDE + col < cols)[None, :]
    base = grid_row.to(tl.int64) * HIGH * row_stride + grid_col * WIDE
    return base, row[:, None].to(tl.int64) * row_stride + col[None, :], mask


@triton.jit
def tiles_kernel(
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
    GIVEN: tl.constexpr,
    CODES: tl.constexpr,
):
    """Fake-quantize a tile, or write its codes and scale. Elements of 8 bits; the result is contiguous."""
    base, offsets, mask = tile_places(rows, cols, row_stride, grid_cols, HIGH, WIDE)
    x = tl.load(x_ptr + base + offsets, mask=mask, other=0.0)
    if GIVEN:
        amax = tl.load(amax_ptr + tl.program_id(0))
        amax = tl.where(amax < 0.0, 0.0, amax)
    else:
        amax = amax_along(amax_along(x, 1), 0)
    stored = stored_scale(amax, 1.0, F)
    times = multiplier(stored, 1.0, F)
    power, divisor, inverse, high, low = divider(times, F)
    x = readable(x, F, GIVEN)
    x = lifted(x, power, F)
    units = quotient(x, divisor, inverse, high, low, F)
    out_base, out_offsets, mask = tile_places(rows, cols, cols, grid_cols, HIGH, WIDE)
    if CODES:
        tl.store(scale_ptr + tl.program_id(0), stored.to(scale_ptr.dtype.element_ty))
        tl.store(
            out_ptr + out_base + out_offsets, encode_units(units, x, times == times, F).to(tl.uint8), mask=mask
        )
    else:
        values = round_units(units, x, F) * times
        tl.store(out_ptr + out_base + out_offsets, cast(values, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def dequantize_tiles_kernel(
    codes_ptr, scale_ptr, out_ptr, rows, cols, grid_cols, F: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr
):
    """The values of stored codes of 8 bits; both matrices are contiguous."""
    base, offsets, mask = tile_places(rows, cols, cols, grid_cols, HIGH, WIDE)
    stored = tl.load(scale_ptr + tl.program_id(0))
    if F.scale != "fp32":
        stored = stored.to(tl.int32)
    codes = tl.load(codes_ptr + base + offsets, mask=mask, other=0).to(tl.int32)
    values = decode_element(codes, F) * multiplier(stored, 1.0, F)
    tl.store(out_ptr + base + offsets, cast(values, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def tiles_amax_kernel(x_ptr, out_ptr, rows, cols, row_stride, grid_cols, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """The amax of each tile."""
    base, offsets, mask = tile_places(rows, cols, row_stride, grid_cols, HIGH, WIDE)
    x = tl.load(x_ptr + base + offsets, mask=mask, other=0.0)
    tl.store(out_ptr + tl.program_id(0), amax_along(amax_along(x, 1), 0))
