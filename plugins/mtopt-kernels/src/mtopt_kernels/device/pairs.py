"""Pairs of 16-bit floats, one register each: half of what values take that are held until their scale is known."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED, cast, encode_units, from_bits, larger, with_sign

MAGNITUDES = tl.constexpr(0x7FFF7FFF)
"""Both numbers of a pair without their signs."""


@triton.jit
def halves(pairs, DTYPE: tl.constexpr):
    """The numbers in the low and in the high halves of int32 words, fp32."""
    if tl.bfloat16 == DTYPE:
        return from_bits(pairs << 16), from_bits(pairs & -0x10000)
    else:
        low = (pairs & 0xFFFF).to(tl.int16).to(DTYPE, bitcast=True)
        high = (pairs >> 16).to(tl.int16).to(DTYPE, bitcast=True)
        return low.to(tl.float32), high.to(tl.float32)


@triton.jit
def paired(low, high, DTYPE: tl.constexpr):
    """fp32 numbers as pairs, rounded to nearest, ties to even."""
    if INTERPRETED:
        low_bits = cast(low, DTYPE).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
        return low_bits | (cast(high, DTYPE).to(tl.int16, bitcast=True).to(tl.int32) << 16)
    elif tl.bfloat16 == DTYPE:
        return tl.inline_asm_elementwise(
            "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,r,r", [low, high], dtype=tl.int32, is_pure=True, pack=1
        )
    else:
        return tl.inline_asm_elementwise(
            "cvt.rn.f16x2.f32 $0, $2, $1;", "=r,r,r", [low, high], dtype=tl.int32, is_pure=True, pack=1
        )


@triton.jit
def larger_pairs(a, b, DTYPE: tl.constexpr):
    """The larger of two numbers in both halves; NaN if one is."""
    if INTERPRETED:
        low_a, high_a = halves(a, DTYPE)
        low_b, high_b = halves(b, DTYPE)
        return paired(larger(low_a, low_b), larger(high_a, high_b), DTYPE)
    elif tl.bfloat16 == DTYPE:
        return tl.inline_asm_elementwise(
            "max.NaN.bf16x2 $0, $1, $2;", "=r,r,r", [a, b], dtype=tl.int32, is_pure=True, pack=1
        )
    else:
        return tl.inline_asm_elementwise(
            "max.NaN.f16x2 $0, $1, $2;", "=r,r,r", [a, b], dtype=tl.int32, is_pure=True, pack=1
        )


@triton.jit
def paired_codes(low_units, low, high_units, high, known, F: tl.constexpr):
    """The codes of 8 bits of both numbers (see `encode_units`), int16.

    The hardware's cast to E4M3 makes such pairs itself. (Taken apart and put together again they came out wrong
    with Triton 3.6, where LLVM joins two zero-extensions into one of a vector of bytes.)
    """
    if F.e_is_e4m3 and not INTERPRETED:
        return tl.inline_asm_elementwise(
            "cvt.rn.satfinite.e4m3x2.f32 $0, $2, $1;",
            "=h,r,r",
            [with_sign(low_units, low), with_sign(high_units, high)],
            dtype=tl.int16,
            is_pure=True,
            pack=1,
        )
    else:
        low_codes = encode_units(low_units, low, known, F) & 255
        return (low_codes | (encode_units(high_units, high, known, F) << 8)).to(tl.int16)
