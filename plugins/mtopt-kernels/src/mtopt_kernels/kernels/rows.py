"""Rows: formats with one scale a row (channel, token) or one for the whole matrix."""

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
def row_places(rows, cols, row_stride, col_tiles, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """Where this program's HIGH x WIDE elements lie: rows, element offset, offsets within, and what exists."""
    pid = tl.program_id(0)
    row_tile = pid // col_tiles
    first_col = (pid - row_tile * col_tiles).to(tl.int64) * WIDE
    row = row_tile * HIGH + tl.arange(0, HIGH)
    within = tl.arange(0, WIDE)
    alive = row < rows
    mask = alive[:, None] & (first_col + within < cols)[None, :]
    base = row_tile.to(tl.int64) * HIGH * row_stride + first_col
    return row, base, tl.arange(0, HIGH)[:, None].to(tl.int64) * row_stride + within[None, :], mask, alive


@triton.jit
def rows_kernel(
    x_ptr,
    amax_ptr,
    out_ptr,
    scale_ptr,
    rows,
    cols,
    row_stride,
    col_tiles,
    F: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    AMAX: tl.constexpr,
    CODES: tl.constexpr,
):
    """Fake-quantize, or write codes and scales. Elements of 8 bits; the result is contiguous.

    AMAX: "tensor": one value is given; "row": one for each row is; "own": a program sees whole rows and finds it.
    """
    row, base, offsets, mask, alive = row_places(rows, cols, row_stride, col_tiles, HIGH, WIDE)
    x = tl.load(x_ptr + base + offsets, mask=mask, other=0.0)
    if AMAX == "own":
        amax = amax_along(x, 1)
    else:
        if AMAX == "tensor":
            amax = tl.load(amax_ptr + row * 0, mask=alive, other=0.0)
        else:
            amax = tl.load(amax_ptr + row, mask=alive, other=0.0)
        amax = tl.where(amax < 0.0, 0.0, amax)
    stored = stored_scale(amax, 1.0, F)
    times = multiplier(stored, 1.0, F)
    power, divisor, inverse, high, low = divider(times, F)
    x = readable(x, F, AMAX != "own")
    x = lifted(x, power[:, None], F)
    units = quotient(x, divisor[:, None], inverse[:, None], high[:, None], low[:, None], F)
    row, base, offsets, mask, alive = row_places(rows, cols, cols, col_tiles, HIGH, WIDE)
    if CODES:
        if AMAX == "tensor":
            tl.store(scale_ptr + row, stored, mask=row + tl.program_id(0) == 0)
        else:
            tl.store(scale_ptr + row, stored.to(scale_ptr.dtype.element_ty), mask=alive)
        tl.store(
            out_ptr + base + offsets, encode_units(units, x, (times == times)[:, None], F).to(tl.uint8), mask=mask
        )
    else:
        values = round_units(units, x, F) * times[:, None]
        tl.store(out_ptr + base + offsets, cast(values, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def dequantize_rows_kernel(
    codes_ptr,
    scale_ptr,
    out_ptr,
    rows,
    cols,
    col_tiles,
    F: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    PER_TENSOR: tl.constexpr,
):
    """The values of stored codes of 8 bits; both matrices are contiguous."""
    row, base, offsets, mask, alive = row_places(rows, cols, cols, col_tiles, HIGH, WIDE)
    if PER_TENSOR:
        stored = tl.load(scale_ptr + row * 0, mask=alive, other=0)
    else:
        stored = tl.load(scale_ptr + row, mask=alive, other=0)
    if F.scale != "fp32":
        stored = stored.to(tl.int32)
    times = multiplier(stored, 1.0, F)
    codes = tl.load(codes_ptr + base + offsets, mask=mask, other=0).to(tl.int32)
    values = decode_element(codes, F) * times[:, None]
    tl.store(out_ptr + base + offsets, cast(values, out_ptr.dtype.element_ty), mask=mask)
