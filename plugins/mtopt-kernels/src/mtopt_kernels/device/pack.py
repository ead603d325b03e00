"""Packing on the GPU: codes of 4 bits to words of eight, in fewer steps than bit by bit.

Codes are left where the rounding put them, with the bits of the number that rounded them above (`raw_codes`); eight
are added up at their places in a word, what was above adds up to a constant, and that is taken off once a word.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTEGER_ROUNDER, bits_of, from_bits, rounder

INTEGER_ROUNDER_BITS = tl.constexpr(0x4B400000)


@triton.jit
def raw_codes(units, x, F: tl.constexpr):
    """`encode_units` for elements of 4 bits, each plus a constant (see `words_of`); integers may be below 0."""
    if F.e_is_int:
        return bits_of(units + INTEGER_ROUNDER)
    else:
        magic = rounder(units, F.e_mantissa_bits, F.e_lowest)
        bits = bits_of(units + from_bits(magic))
        sign = (x.to(tl.uint32, bitcast=True) >> 28).to(tl.int32)
        return ((bits & ((4 << F.e_mantissa_bits) - 1)) | (sign & -8)) + (bits >> (23 - F.e_mantissa_bits))


@triton.jit
def wrapped(number: tl.constexpr):
    """A number modulo 2^32 as an int32 constant."""
    low: tl.constexpr = number % 4294967296
    result: tl.constexpr = low - 4294967296 if low >= 2147483648 else low
    return result


@triton.jit
def words_of(raw, known, F: tl.constexpr):
    """int32 [N, K / 8] from raw codes [N, K], the first in the lowest bits; 0 for rows whose scale is not known."""
    N: tl.constexpr = raw.shape[0]
    K: tl.constexpr = raw.shape[1]
    even, odd = tl.split(tl.reshape(raw, (N, K // 2, 2)))
    even, odd = tl.split(tl.reshape(even + (odd << 4), (N, K // 4, 2)))
    even, odd = tl.split(tl.reshape(even + (odd << 8), (N, K // 8, 2)))
    total = even + (odd << 16)
    if F.e_is_int:  # + 8 makes all codes positive, and flips the highest bit of each
        less: tl.constexpr = INTEGER_ROUNDER_BITS * 0x11111111 - 0x88888888
        words = (total - wrapped(less)) ^ wrapped(0x88888888)
    else:
        excess: tl.constexpr = (F.e_lowest >> (23 - F.e_mantissa_bits)) + (
            (23 - F.e_mantissa_bits) << F.e_mantissa_bits
        )
        words = total - wrapped(excess * 0x11111111)
    return tl.where(known, words, 0)
