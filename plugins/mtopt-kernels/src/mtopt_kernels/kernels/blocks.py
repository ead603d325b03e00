"""Blocks along a row: formats whose scales belong to K consecutive elements (NVFP4, MX, INT4, FP8 1x128)."""

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
from mtopt_kernels.device.pack import raw_codes, words_of
from mtopt_kernels.device.scale import multiplier, outer_scale, stored_scale
from mtopt_kernels.device.six_bit import codes_of_quads, load_quads, quads_of, store_quads


@triton.jit
def block_places(n_blocks, cols, row_stride, grid_cols, K: tl.constexpr, TILE: tl.constexpr, WHOLE: tl.constexpr):
    """Where the TILE blocks of this program lie: block indices, element offsets [TILE, K] and which exist.

    WHOLE: the matrix is contiguous and made of whole blocks, so that block b starts at element b · K.
    """
    first = tl.program_id(0).to(tl.int64) * TILE
    local = tl.arange(0, TILE)
    within = tl.arange(0, K)
    alive = local < tl.minimum(n_blocks - first, TILE).to(tl.int32)
    if WHOLE:
        offsets = local[:, None] * K + within[None, :]
        return first, local, first * K, offsets, alive[:, None] & (within >= 0)[None, :], alive
    else:
        row, place = place_in_row(first + local, grid_cols, K)
        col = place[:, None] + within[None, :]
        return first, local, first * 0, row[:, None] * row_stride + col, alive[:, None] & (col < cols), alive


@triton.jit
def place_in_row(block, grid_cols, K: tl.constexpr):
    """The rows of blocks, and their first elements in it where a block has K."""
    row = block // grid_cols
    return row, (block - row * grid_cols) * K


@triton.jit
def byte_places(
    first, local, base, alive, grid_cols, stride, K: tl.constexpr, TILE: tl.constexpr, WHOLE: tl.constexpr
):
    """Where the bytes [TILE, K / 2] of codes of 4 bits lie in rows of `stride` bytes, and which exist."""
    within = tl.arange(0, K // 2)
    if WHOLE:
        pairs = local[:, None] * (K // 2) + within[None, :]
        return base // 2 + pairs, alive[:, None] & (pairs >= 0)
    else:
        row, place = place_in_row(first + local, grid_cols, K // 2)
        byte = place[:, None] + within[None, :]
        return row[:, None] * stride + byte, alive[:, None] & (byte < stride)


@triton.jit
def result_places(first, local, offsets, grid_cols, row_stride, out_stride, WHOLE: tl.constexpr):
    """The offsets of elements in a matrix whose rows have another stride."""
    if WHOLE:
        return offsets
    else:
        row, _ = place_in_row(first + local, grid_cols, 1)
        return offsets + row[:, None] * (out_stride - row_stride)


@triton.jit
def load_blocks(
    pointers, offsets, mask, alive, TILE: tl.constexpr, K: tl.constexpr, WHOLE: tl.constexpr, SIXTEENS: tl.constexpr
):
    """The elements [TILE, K] of blocks, each thread with a run of 16 where they come in SIXTEENS."""
    if WHOLE and SIXTEENS:
        run, half = tl.arange(0, TILE * K // 16)[:, None] * 16, tl.arange(0, 8)[None, :]
        exists = tl.reshape(tl.broadcast_to(alive[:, None], (TILE, K // 16)), (TILE * K // 16, 1))
        left = tl.load(pointers + run + half, mask=exists, other=0.0)
        right = tl.load(pointers + run + half + 8, mask=exists, other=0.0)
        return tl.reshape(tl.permute(tl.join(left, right), (0, 2, 1)), (TILE, K))
    else:
        return tl.load(pointers + offsets, mask=mask, other=0.0)


@triton.jit
def store_blocks(pointers, values, offsets, mask, alive, TILE: tl.constexpr, K: tl.constexpr, WHOLE: tl.constexpr):
    """Write elements as `load_blocks` reads them."""
    if WHOLE and K == 16:
        half = tl.arange(0, TILE)[:, None] * 16 + tl.arange(0, 8)[None, :]
        keep = alive[:, None] & (half >= 0)
        left, right = tl.split(tl.permute(tl.reshape(values, (TILE, 2, 8)), (0, 2, 1)))
        tl.store(pointers + half, left, mask=keep)
        tl.store(pointers + half + 8, right, mask=keep)
    else:
        tl.store(pointers + offsets, values, mask=mask)


@triton.jit
def blocks_kernel(
    x_ptr,
    amax_ptr,
    outer_ptr,
    out_ptr,
    scale_ptr,
    scale_2_ptr,
    n_blocks,
    cols,
    row_stride,
    out_stride,
    grid_cols,
    F: tl.constexpr,
    K: tl.constexpr,
    TILE: tl.constexpr,
    WHOLE: tl.constexpr,
    GIVEN: tl.constexpr,
    CODES: tl.constexpr,
):
    """Fake-quantize, or write codes and scales (CODES), with the amax of each block GIVEN or taken from x."""
    first, local, base, offsets, mask, alive = block_places(n_blocks, cols, row_stride, grid_cols, K, TILE, WHOLE)
    sixteens: tl.constexpr = K == 16 or (CODES and F.e_bits == 6)  # a block, or three words of codes
    x = load_blocks(x_ptr + base, offsets, mask, alive, TILE, K, WHOLE, sixteens)
    if GIVEN:
        amax = tl.load(amax_ptr + first + local, mask=alive, other=0.0)
        amax = tl.where(amax < 0.0, 0.0, amax)
    else:
        amax = amax_along(x, 1)
    scale_2 = 1.0
    if F.outer:
        scale_2 = outer_scale(tl.load(outer_ptr), F)
    stored = stored_scale(amax, scale_2, F)
    times = multiplier(stored, scale_2, F)
    power, divisor, inverse, high, low = divider(times, F)
    x = readable(x, F, GIVEN)
    x = lifted(x, power[:, None], F)
    units = quotient(x, divisor[:, None], inverse[:, None], high[:, None], low[:, None], F, GIVEN)
    if CODES:
        tl.store(scale_ptr + first + local, stored.to(scale_ptr.dtype.element_ty), mask=alive)
        if F.outer:
            tl.store(scale_2_ptr, scale_2, mask=tl.program_id(0) == 0)
        if F.e_bits == 4 and WHOLE:  # in words, of which a block has a whole number
            words = words_of(raw_codes(units, x, F), (times == times)[:, None], F)
            at = local[:, None] * (K // 8) + tl.arange(0, K // 8)[None, :]
            words_ptr = out_ptr.to(tl.pointer_type(tl.int32)) + base // 8
            tl.store(words_ptr + at, words, mask=alive[:, None] & (at >= 0))
        elif F.e_bits == 4:
            codes = encode_units(units, x, (times == times)[:, None], F)
            low, high = tl.split(tl.reshape(codes, (TILE, K // 2, 2)))
            at, keep = byte_places(first, local, base, alive, grid_cols, out_stride, K, TILE, WHOLE)
            tl.store(out_ptr + at, (low | (high << 4)).to(tl.uint8), mask=keep)
        elif F.e_bits == 6:
            quads = quads_of(units, x, (times == times)[:, None], F)
            store_quads(out_ptr, quads, first, n_blocks, grid_cols, out_stride, WHOLE)
        else:
            codes = encode_units(units, x, (times == times)[:, None], F)
            at = result_places(first, local, offsets, grid_cols, row_stride, out_stride, WHOLE)
            tl.store(out_ptr + base + at, codes.to(tl.uint8), mask=mask)
    else:
        at = result_places(first, local, offsets, grid_cols, row_stride, out_stride, WHOLE)
        values = cast(round_units(units, x, F) * times[:, None], out_ptr.dtype.element_ty)
        store_blocks(out_ptr + base, values, at, mask, alive, TILE, K, WHOLE)


@triton.jit
def dequantize_blocks_kernel(
    codes_ptr,
    scale_ptr,
    scale_2_ptr,
    out_ptr,
    n_blocks,
    cols,
    codes_stride,
    grid_cols,
    F: tl.constexpr,
    K: tl.constexpr,
    TILE: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """The values of stored codes; the result is contiguous."""
    first, local, base, offsets, mask, alive = block_places(n_blocks, cols, cols, grid_cols, K, TILE, WHOLE)
    scale_2 = 1.0
    if F.outer:
        scale_2 = tl.load(scale_2_ptr)
    stored = tl.load(scale_ptr + first + local, mask=alive, other=0)
    if F.scale != "fp32":
        stored = stored.to(tl.int32)
    times = multiplier(stored, scale_2, F)
    if F.e_bits == 4:
        at, keep = byte_places(first, local, base, alive, grid_cols, codes_stride, K, TILE, WHOLE)
        packed = tl.load(codes_ptr + at, mask=keep, other=0).to(tl.int32)
        codes = tl.reshape(tl.join(packed & 15, packed >> 4), (TILE, K))
    elif F.e_bits == 6:
        quads = load_quads(codes_ptr, first, n_blocks, grid_cols, codes_stride, K, TILE, WHOLE)
        codes = codes_of_quads(quads)
    else:
        codes = tl.load(codes_ptr + base + offsets, mask=mask, other=0).to(tl.int32)
    values = decode_element(codes, F) * times[:, None]
    tl.store(out_ptr + base + offsets, cast(values, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def blocks_amax_kernel(
    x_ptr, out_ptr, n_blocks, cols, row_stride, grid_cols, K: tl.constexpr, TILE: tl.constexpr, WHOLE: tl.constexpr
):
    """The amax of each block."""
    first, local, base, offsets, mask, alive = block_places(n_blocks, cols, row_stride, grid_cols, K, TILE, WHOLE)
    x = tl.load(x_ptr + base + offsets, mask=mask, other=0.0)
    tl.store(out_ptr + first + local, amax_along(x, 1), mask=alive)
