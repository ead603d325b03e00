"""NVFP4 weights on the GPU: from prepacked words to bf16 in the registers of the thread that multiplies them."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED, from_bits
from mtopt_kernels.device.four_bit import arranged, words_of

LIFT = tl.constexpr(2.0**14)
"""What decoded weights lack: they are 2^-14 too small, so that a scale is decoded by an `or`."""


def _decoder() -> str:
    """PTX for two neighbouring words: eight pairs of bf16, each two codes times their scale.

    $0…$7: the results, of scale block 0…7. $8, $9: the words. $10, $12: the scale bytes of blocks 0…3 and 4…7; $11,
    $13 are the same registers. A code s|eem becomes the bf16 s|000000ee|m000000, which is its value times 2^-126. A
    scale byte eeeeemmm becomes 0|111eeeee|mmm0000, which is its value times 2^112. The product of the two is exact:
    six significant bits.
    """
    lines = [".reg .b32 t, u;"]
    for i, (word, scales) in enumerate((("$8", "$10"), ("$9", "$12"))):
        lines += [
            f".reg .b32 even{i}, odd{i};",
            f".reg .b16 a{i}, b{i}, c{i}, d{i};",
            f"shl.b32 t, {scales}, 4;",
            f"lop3.b32 even{i}, t, 0x0FF00FF0, 0x70007000, 0xEA;",  # (t & mask) | exponent
            f"shr.b32 t, {scales}, 4;",
            f"lop3.b32 odd{i}, t, 0x0FF00FF0, 0x70007000, 0xEA;",
            f"mov.b32 {{a{i}, c{i}}}, even{i};",
            f"mov.b32 {{b{i}, d{i}}}, odd{i};",
        ]
        moves = (
            f"and.b32 t, {word}, 0x81C081C0;",
            f"shl.b32 t, {word}, 4; and.b32 t, t, 0x81C081C0;",
            f"shf.l.wrap.b32 t, {word}, {word}, 10; and.b32 t, t, 0x81C081C0;",
            f"shl.b32 t, {word}, 6; and.b32 t, t, 0x80C080C0; "
            f"shr.b32 u, {word}, 2; lop3.b32 t, u, 0x01000100, t, 0xEA;",
        )
        for place, move in enumerate(moves):
            scale = f"{'abcd'[place]}{i}"
            lines += [move, f"mov.b32 u, {{{scale}, {scale}}};", f"mul.rn.bf16x2 ${4 * i + place}, t, u;"]
    return "{ " + " ".join(lines) + " }"


DECODER = tl.constexpr(_decoder())
CONSTRAINTS = tl.constexpr(",".join(["=r"] * 8 + ["r"] * 6))


@triton.jit
def decode_slowly(words, low, high, CODE: tl.constexpr):
    """One of `decode_words`' results in fp32, by operations that the interpreter knows."""
    word = words_of(words, CODE)
    if CODE % 4 == 0:
        moved = word & -0x7E3F7E40  # 0x81C081C0
    elif CODE % 4 == 1:
        moved = (word << 4) & -0x7E3F7E40
    elif CODE % 4 == 2:
        moved = ((word << 10) | ((word >> 22) & 0x3FF)) & -0x7E3F7E40
    else:
        moved = ((word << 6) & -0x7F3F7F40) | ((word >> 2) & 0x01000100)
    scales = low if CODE < 4 else high
    field = ((scales >> (8 * (CODE % 4))) & 255) << 20
    scale = from_bits(field | 0x70000000)
    sides = tl.join(from_bits(moved << 16), from_bits(moved & -0x10000))
    return tl.reshape(sides, words.shape) * scale


@triton.jit
def decode_words(words, low, high):
    """Eight tensors, one a scale block, of weights 2^-14 too small: [tiles, 8 g, 4 t, 4] as the words are.

    Of a thread's four words (h, i), the results have the columns (h, side).
    """
    if INTERPRETED:
        a0, a1 = decode_slowly(words, low, high, 0), decode_slowly(words, low, high, 1)
        a2, a3 = decode_slowly(words, low, high, 2), decode_slowly(words, low, high, 3)
        a4, a5 = decode_slowly(words, low, high, 4), decode_slowly(words, low, high, 5)
        a6, a7 = decode_slowly(words, low, high, 6), decode_slowly(words, low, high, 7)
    else:
        a0, a1, a2, a3, a4, a5, a6, a7 = tl.inline_asm_elementwise(
            DECODER, CONSTRAINTS, [words, low, high], dtype=(tl.bfloat16,) * 8, is_pure=True, pack=2
        )
    return a0, a1, a2, a3, a4, a5, a6, a7


@triton.jit
def decode_nvfp4_tile(upper, lower, scales, TILES: tl.constexpr):
    """The weights of TILES tiles and a chunk, [16 TILES, 128], each 2^-14 too small; bf16, interpreted fp32.

    Args:
        upper, lower: words [TILES, 8, 4, 4] of the rows g and g + 8.
        scales: words [TILES, 8, 4] of the rows g.
    """
    low, high = tl.split(tl.reshape(scales, (TILES, 8, 2, 2)))
    low_0, low_1 = tl.split(low)
    high_0, high_1 = tl.split(high)
    a0, a1, a2, a3, a4, a5, a6, a7 = decode_words(upper, low_0[:, :, None, None], high_0[:, :, None, None])
    b0, b1, b2, b3, b4, b5, b6, b7 = decode_words(lower, low_1[:, :, None, None], high_1[:, :, None, None])
    return arranged(a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7, TILES)
