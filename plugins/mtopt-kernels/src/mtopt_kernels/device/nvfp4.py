"""NVFP4 weights on the GPU: from prepacked words to 16-bit floats in registers of the thread that multiplies."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED, from_bits
from mtopt_kernels.device.four_bit import arranged, words_of

LIFT = tl.constexpr(2.0**14)
"""What weights decoded to bf16 lack: they are 2^-14 too small, so that a scale is decoded by an `or`."""
HALF_LIFT = tl.constexpr(2.0**7)
"""The same of fp16, whose range is small: the largest, 6 · 448, is 21 there, and the least keeps all its bits."""


def moved_codes(to: str, word: str, place: int) -> str:
    """PTX that brings one code of each half of a word into place, number `place` of four (see `prepack`).

    A code s|eem becomes the bf16 s|000000ee|m000000, which is its value times 2^-126.
    """
    if place == 0:
        return f"and.b32 {to}, {word}, 0x81C081C0;"
    if place == 1:
        return f"shl.b32 {to}, {word}, 4; and.b32 {to}, {to}, 0x81C081C0;"
    if place == 2:
        return f"shf.l.wrap.b32 {to}, {word}, {word}, 10; and.b32 {to}, {to}, 0x81C081C0;"
    return (
        f"{{ .reg .b32 low; shr.b32 low, {word}, 2; shl.b32 {to}, {word}, 6; and.b32 {to}, {to}, 0x80C080C0; "
        f"lop3.b32 {to}, low, 0x01000100, {to}, 0xEA; }}"
    )


def half_codes(to: str, word: str, place: int) -> str:
    """The same for fp16: the code becomes s|000ee|m000000000, which is its value times 2^-14."""
    sign = f"lop3.b32 {to}, {to}, 0x80008000, v, 0xEA;"  # ({to} & sign) | v
    if place == 0:
        return f"shl.b32 v, {word}, 3; and.b32 v, v, 0x0E000E00; lop3.b32 {to}, {word}, 0x80008000, v, 0xEA;"
    if place == 1:
        return f"shl.b32 v, {word}, 7; and.b32 v, v, 0x0E000E00; shl.b32 {to}, {word}, 4; {sign}"
    if place == 2:
        turned = f"shf.l.wrap.b32 v, {word}, {word}, 13; and.b32 v, v, 0x0E000E00;"
        return f"{turned} shf.l.wrap.b32 {to}, {word}, {word}, 10; {sign}"
    return (
        f"shl.b32 v, {word}, 9; and.b32 v, v, 0x06000600; shl.b32 {to}, {word}, 1; "
        f"lop3.b32 v, {to}, 0x08000800, v, 0xEA; shl.b32 {to}, {word}, 6; {sign}"
    )


def _scales(to: str, word: str, odd: bool, half: bool) -> str:
    """PTX for the scales of a word's even bytes, or the odd ones, as a pair of bf16, or fp16.

    A byte eeeeemmm becomes 0|111eeeee|mmm0000, its value times 2^112; or 0|eeeee|mmm0000000, with 7 more in e: its
    value times 2^7.
    """
    if half:
        move = "shr.b32 t, {}, 1;" if odd else "shl.b32 t, {}, 7;"
        return f"{move.format(word)} and.b32 t, t, 0x7F807F80; add.u32 {to}, t, 0x1C001C00;"
    move = "shr" if odd else "shl"
    return f"{move}.b32 t, {word}, 4; lop3.b32 {to}, t, 0x0FF00FF0, 0x70007000, 0xEA;"  # (t & mask) | exponent


def _decoder(half: bool) -> str:
    """PTX for two neighbouring words: eight pairs of bf16, or fp16, each two codes times their scale.

    $0…$7: the results, of scale block 0…7. $8, $9: the words. $10, $12: the scale bytes of blocks 0…3 and 4…7; $11,
    $13 are the same registers. Codes become what `moved_codes` or `half_codes` says, scales what `_scales` does.
    The product of the two is exact: six significant bits.
    """
    kind, lines = "f16x2" if half else "bf16x2", [".reg .b32 t, u, v;"]
    for i, (word, scales) in enumerate((("$8", "$10"), ("$9", "$12"))):
        lines += [
            f".reg .b32 even{i}, odd{i};",
            f".reg .b16 a{i}, b{i}, c{i}, d{i};",
            _scales(f"even{i}", scales, False, half),
            _scales(f"odd{i}", scales, True, half),
            f"mov.b32 {{a{i}, c{i}}}, even{i};",
            f"mov.b32 {{b{i}, d{i}}}, odd{i};",
        ]
        for place in range(4):
            scale = f"{'abcd'[place]}{i}"
            lines.append(half_codes("t", word, place) if half else moved_codes("t", word, place))
            lines += [f"mov.b32 u, {{{scale}, {scale}}};", f"mul.rn.{kind} ${4 * i + place}, t, u;"]
    return "{ " + " ".join(lines) + " }"


DECODER = tl.constexpr(_decoder(half=False))
HALF_DECODER = tl.constexpr(_decoder(half=True))
CONSTRAINTS = tl.constexpr(",".join(["=r"] * 8 + ["r"] * 6))


@triton.jit
def pair_slowly(word, PLACE: tl.constexpr):
    """What `moved_codes` makes of a word, as two tensors in fp32, by operations that the interpreter knows."""
    if PLACE == 0:
        moved = word & -0x7E3F7E40  # 0x81C081C0
    elif PLACE == 1:
        moved = (word << 4) & -0x7E3F7E40
    elif PLACE == 2:
        moved = ((word << 10) | ((word >> 22) & 0x3FF)) & -0x7E3F7E40
    else:
        moved = ((word << 6) & -0x7F3F7F40) | ((word >> 2) & 0x01000100)
    return from_bits(moved << 16), from_bits(moved & -0x10000)


@triton.jit
def decode_slowly(words, low, high, CODE: tl.constexpr):
    """One of `decode_words`' results in fp32, by operations that the interpreter knows."""
    first, second = pair_slowly(words_of(words, CODE), CODE % 4)
    scales = low if CODE < 4 else high
    field = ((scales >> (8 * (CODE % 4))) & 255) << 20
    return tl.reshape(tl.join(first, second), words.shape) * from_bits(field | 0x70000000)


@triton.jit
def decode_words(words, low, high, HALF: tl.constexpr):
    """Eight tensors, one a scale block, of weights that are too small: [tiles, 8 g, 4 t, 4] as the words are.

    Of a thread's four words (h, i), the results have the columns (h, side).
    """
    if INTERPRETED:
        a0, a1 = decode_slowly(words, low, high, 0), decode_slowly(words, low, high, 1)
        a2, a3 = decode_slowly(words, low, high, 2), decode_slowly(words, low, high, 3)
        a4, a5 = decode_slowly(words, low, high, 4), decode_slowly(words, low, high, 5)
        a6, a7 = decode_slowly(words, low, high, 6), decode_slowly(words, low, high, 7)
    elif HALF:
        a0, a1, a2, a3, a4, a5, a6, a7 = tl.inline_asm_elementwise(
            HALF_DECODER, CONSTRAINTS, [words, low, high], dtype=(tl.float16,) * 8, is_pure=True, pack=2
        )
    else:
        a0, a1, a2, a3, a4, a5, a6, a7 = tl.inline_asm_elementwise(
            DECODER, CONSTRAINTS, [words, low, high], dtype=(tl.bfloat16,) * 8, is_pure=True, pack=2
        )
    return a0, a1, a2, a3, a4, a5, a6, a7


@triton.jit
def decode_nvfp4_tile(upper, lower, scales, TILES: tl.constexpr, HALF: tl.constexpr):
    """The weights of TILES tiles and a chunk, [16 TILES, 128], each too small by what `lift_of` says; bf16, or fp16
    where HALF; interpreted fp32.

    Args:
        upper, lower: words [TILES, 8, 4, 4] of the rows g and g + 8.
        scales: words [TILES, 8, 4] of the rows g.
    """
    low, high = tl.split(tl.reshape(scales, (TILES, 8, 2, 2)))
    low_0, low_1 = tl.split(low)
    high_0, high_1 = tl.split(high)
    a0, a1, a2, a3, a4, a5, a6, a7 = decode_words(upper, low_0[:, :, None, None], high_0[:, :, None, None], HALF)
    b0, b1, b2, b3, b4, b5, b6, b7 = decode_words(lower, low_1[:, :, None, None], high_1[:, :, None, None], HALF)
    return arranged(a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7, TILES)


@triton.jit
def lift_of(HALF: tl.constexpr):
    """What decoded weights lack."""
    return HALF_LIFT if HALF and not INTERPRETED else LIFT
