"""INT4 weights on the GPU: from prepacked words to 16-bit floats in registers of the thread that multiplies."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED
from mtopt_kernels.device.four_bit import arranged, words_of


def _decoder(half: bool) -> str:
    """PTX for two neighbouring words: eight pairs of integers in bf16, or fp16.

    $0…$7: the results, of group 0…7. $8, $9: the words. A code is kept as 8 more than its value, and the bf16 with
    the bits of 128 and a code in its lowest ones is 128 + code: a bf16 counts ones there. So 136 less is the value.
    Of fp16 that is true of 1024.
    """
    base, offset, kind = ("0x64006400", "0x64086408", "f16x2") if half else ("0x43004300", "0x43084308", "bf16x2")
    lines = [".reg .b32 t, offset;", f"mov.b32 offset, {offset};"]
    for i, word in enumerate(("$8", "$9")):
        for place in range(4):
            moved = word if place == 0 else "t"
            lines += [f"shr.b32 t, {word}, {4 * place};"] if place else []
            lines += [
                f"lop3.b32 t, {moved}, 0x000F000F, {base}, 0xEA;",  # (word & mask) | base
                f"sub.rn.{kind} ${4 * i + place}, t, offset;",
            ]
    return "{ " + " ".join(lines) + " }"


DECODER = tl.constexpr(_decoder(half=False))
HALF_DECODER = tl.constexpr(_decoder(half=True))
CONSTRAINTS = tl.constexpr(",".join(["=r"] * 8 + ["r"] * 2))


@triton.jit
def decode_slowly(words, CODE: tl.constexpr):
    """One of `decode_words`' results in fp32, by operations that the interpreter knows."""
    moved = words_of(words, CODE) >> (4 * (CODE % 4))
    sides = tl.join(moved & 15, (moved >> 16) & 15) - 8
    return tl.reshape(sides, words.shape).to(tl.float32)


@triton.jit
def decode_words(words, HALF: tl.constexpr):
    """Eight tensors, one a group of 16 columns, of integers: [tiles, 8 g, 4 t, 4] as the words are.

    Of a thread's four words (h, i), the results have the columns (h, side).
    """
    if INTERPRETED:
        a0, a1 = decode_slowly(words, 0), decode_slowly(words, 1)
        a2, a3 = decode_slowly(words, 2), decode_slowly(words, 3)
        a4, a5 = decode_slowly(words, 4), decode_slowly(words, 5)
        a6, a7 = decode_slowly(words, 6), decode_slowly(words, 7)
    elif HALF:
        a0, a1, a2, a3, a4, a5, a6, a7 = tl.inline_asm_elementwise(
            HALF_DECODER, CONSTRAINTS, [words], dtype=(tl.float16,) * 8, is_pure=True, pack=2
        )
    else:
        a0, a1, a2, a3, a4, a5, a6, a7 = tl.inline_asm_elementwise(
            DECODER, CONSTRAINTS, [words], dtype=(tl.bfloat16,) * 8, is_pure=True, pack=2
        )
    return a0, a1, a2, a3, a4, a5, a6, a7


@triton.jit
def decode_int4_tile(upper, lower, TILES: tl.constexpr, HALF: tl.constexpr):
    """The integers of TILES tiles and a chunk, [16 TILES, 128]; bf16, or fp16 where HALF; interpreted fp32.

    Args:
        upper, lower: words [TILES, 8, 4, 4] of the rows g and g + 8.
    """
    a0, a1, a2, a3, a4, a5, a6, a7 = decode_words(upper, HALF)
    b0, b1, b2, b3, b4, b5, b6, b7 = decode_words(lower, HALF)
    return arranged(a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7, TILES)
