"""Codes of 6 bits on the GPU: four of them (a quad) are three bytes, and sixteen are three words.

E2M3 is E4M3 with a shorter exponent, and E3M2 is E5M2: where numbers are scaled so that the smallest normal ones
meet, the cast to the longer float gives the code of the shorter one: its sign on top, two zeros, and the rest.
A GPU casts two numbers in one instruction.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED, encode_units, with_sign

BYTES_E4M3 = tl.constexpr(
    "{ .reg .b16 low, high; cvt.rn.satfinite.e4m3x2.f32 low, $2, $1;"
    " cvt.rn.satfinite.e4m3x2.f32 high, $4, $3; mov.b32 $0, {low, high}; }"
)
BYTES_E5M2 = tl.constexpr(
    "{ .reg .b16 low, high; cvt.rn.satfinite.e5m2x2.f32 low, $2, $1;"
    " cvt.rn.satfinite.e5m2x2.f32 high, $4, $3; mov.b32 $0, {low, high}; }"
)
SIGNS = tl.constexpr(0x80808080 - 2**32)
UPPER_OF_TWO = tl.constexpr(0xFC00FC00 - 2**32)
UPPER_OF_FOUR = tl.constexpr(0xFFF00000 - 2**32)


@triton.jit
def fours_of(x):
    """[N, K] → four tensors [N, K / 4], the first with the elements 0, 4, 8 ..."""
    N: tl.constexpr = x.shape[0]
    K: tl.constexpr = x.shape[1]
    even, odd = tl.split(tl.reshape(x, (N, K // 2, 2)))
    first, third = tl.split(tl.reshape(even, (N, K // 4, 2)))
    second, fourth = tl.split(tl.reshape(odd, (N, K // 4, 2)))
    return first, second, third, fourth


@triton.jit
def quads_of(units, x, known, F: tl.constexpr):
    """Quads of `encode_units`, int32 [N, K / 4]: in the upper three bytes, the first code lowest; the lowest byte
    means nothing. Codes are 0 where the scale is not `known`."""
    if F.e_carrier == "":
        first, second, third, fourth = fours_of(encode_units(units, x, known, F) << 2)
        codes = first | (second << 8) | (third << 16) | (fourth << 24)
    else:
        codes = cast_fours(units, x, known, F)
        codes = chosen(SIGNS, codes, codes << 2)
    # A code is in the upper six bits of its byte; now two go to the upper twelve of their half, and four together.
    codes = chosen(UPPER_OF_TWO, codes, codes << 2)
    return tl.where(known, chosen(UPPER_OF_FOUR, codes, codes << 4), 0)


@triton.jit
def cast_fours(units, x, known, F: tl.constexpr):
    """The bytes of four casts to the longer float in int32 [N, K / 4]."""
    if INTERPRETED:
        codes = encode_units(units, x, known, F)
        first, second, third, fourth = fours_of((codes & 31) | ((codes & 32) << 2))
        return first | (second << 8) | (third << 16) | (fourth << 24)
    else:
        first, second, third, fourth = fours_of(with_sign(units * F.e_shrink, x))
        asm: tl.constexpr = BYTES_E4M3 if F.e_carrier == "e4m3" else BYTES_E5M2
        return tl.inline_asm_elementwise(
            asm, "=r,r,r,r,r", [first, second, third, fourth], dtype=tl.int32, is_pure=True, pack=1
        )


@triton.jit
def chosen(mask: tl.constexpr, a, b):
    """The bits of a where the mask has ones, else those of b."""
    return (a & mask) | (b & ~mask)


@triton.jit
def codes_of_quads(quads):
    """int32 [N, K] from int32 [N, K / 4]."""
    even = tl.join((quads >> 8) & 63, (quads >> 20) & 63)
    odd = tl.join((quads >> 14) & 63, (quads >> 26) & 63)
    return tl.reshape(tl.join(even, odd), (quads.shape[0], quads.shape[1] * 4))


@triton.jit
def store_quads(out_ptr, quads, first, n_blocks, grid_cols, stride, WHOLE: tl.constexpr):
    """Write the quads [TILE, K / 4] of the blocks from `first` on, `grid_cols` of which are in a row of `stride`
    bytes: as words where the matrix is WHOLE (see `block_places`), by threads side by side, else as bytes."""
    TILE: tl.constexpr = quads.shape[0]
    K: tl.constexpr = quads.shape[1] * 4
    if WHOLE:
        number, part = tl.arange(0, TILE * K // 16), tl.arange(0, 4)
        left = tl.minimum(n_blocks - first, TILE).to(tl.int32) * (K // 16)
        words_ptr = out_ptr.to(tl.pointer_type(tl.int32)) + first * (K // 16 * 3)
        keep = (number < left)[:, None] & (part < 3)[None, :]
        tl.store(words_ptr + (number[:, None] * 3 + part[None, :]), words_of_quads(quads), mask=keep)
    else:
        even, odd = tl.split(tl.reshape(quads, (TILE * K // 8, 2)))
        at, left = byte_places(first, n_blocks, grid_cols, stride, K, TILE, WHOLE)
        for number in tl.static_range(3):
            tl.store(out_ptr + at + number, (even >> (8 * number + 8)).to(tl.uint8), mask=left > number)
            tl.store(out_ptr + at + 3 + number, (odd >> (8 * number + 8)).to(tl.uint8), mask=left > 3 + number)


@triton.jit
def words_of_quads(quads):
    """int32 [N, 4] from N times four quads: the three words of sixteen codes, and one that nobody needs."""
    first, second, third, fourth = fours_of(quads)
    low = picked(first, second, 0x5321)
    middle = picked(second, third, 0x6532)
    high = picked(third, fourth, 0x7653)
    words = tl.join(tl.join(low, high), tl.join(middle, middle))
    return tl.reshape(words, (quads.shape[0] * quads.shape[1] // 4, 4))


@triton.jit
def picked(a, b, WHICH: tl.constexpr):
    """Four of the bytes 0 to 3 of a and 4 to 7 of b as int32, the first by the lowest digit of WHICH."""
    if INTERPRETED:
        result = tl.zeros_like(a)
        for place in tl.static_range(4):
            number: tl.constexpr = (WHICH >> (4 * place)) & 15
            result |= ((a if number < 4 else b) >> (number % 4 * 8) & 255) << (8 * place)
        return result
    else:
        return tl.inline_asm_elementwise(
            "prmt.b32 $0, $1, $2, $3;", "=r,r,r,r", [a, b, WHICH], dtype=tl.int32, is_pure=True, pack=1
        )


@triton.jit
def load_quads(
    codes_ptr, first, n_blocks, grid_cols, stride, K: tl.constexpr, TILE: tl.constexpr, WHOLE: tl.constexpr
):
    """Read what `store_quads` writes, byte by byte: a thread reads six and, if they are 16-bit, writes 16 bytes."""
    at, left = byte_places(first, n_blocks, grid_cols, stride, K, TILE, WHOLE)
    even, odd = three_bytes(codes_ptr + at, left), three_bytes(codes_ptr + at + 3, left - 3)
    return tl.reshape(tl.join(even, odd), (TILE, K // 4))


@triton.jit
def byte_places(first, n_blocks, grid_cols, stride, K: tl.constexpr, TILE: tl.constexpr, WHOLE: tl.constexpr):
    """Where the six bytes of eight codes begin, [TILE · K / 8], and how many bytes its row has from there on."""
    number = tl.arange(0, TILE * K // 8)
    alive = number < tl.minimum(n_blocks - first, TILE).to(tl.int32) * (K // 8)
    if WHOLE:
        return first * (K // 8 * 6) + number * 6, tl.where(alive, 6, 0)
    else:
        eight, in_row = first * (K // 8) + number, grid_cols * (K // 8)
        row = eight // in_row
        byte = (eight - row * in_row) * 6
        return row * stride + byte, tl.where(alive, stride - byte, 0)


@triton.jit
def three_bytes(pointers, left):
    """Those of three bytes that exist, as the upper three of int32."""
    low = tl.load(pointers, mask=left > 0, other=0).to(tl.int32)
    middle = tl.load(pointers + 1, mask=left > 1, other=0).to(tl.int32)
    return (low << 8) | (middle << 16) | (tl.load(pointers + 2, mask=left > 2, other=0).to(tl.int32) << 24)
