"""Scales on the GPU: from the largest magnitude of a block to what its codes are multiplied by."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import (
    INTERPRETED,
    bits_of,
    decode_float,
    divided,
    encode_magnitude,
    from_bits,
    inverse_of,
    power_for,
)


@triton.jit
def fp32_scale(unit, amax, zero_block: tl.constexpr):
    """A scale of 0 becomes `zero_block`; infinity becomes NaN, so that a broken block shows."""
    return tl.where(amax == float("inf"), float("nan"), tl.where(unit == 0.0, zero_block, unit))


@triton.jit
def outer_scale(outer_amax, F: tl.constexpr):
    """The outer scale of a tensor with this largest magnitude, fp32."""
    return fp32_scale(tl.div_rn(outer_amax, F.outer_target), outer_amax, F.outer_zero)


@triton.jit
def power_codes(amax, F: tl.constexpr):
    """The exponents of scales that are powers of two, int32; 255 (NaN) where amax is not finite."""
    if F.rule == "up":
        # The least power of two that is not below RN(amax / target): exponents subtracted, and one more where the
        # mantissa of amax is the larger one. (Mantissas that differ have a quotient that fp32 tells from 1.)
        bits = bits_of(amax)
        field = (bits >> 23) - F.target_exponent + ((bits & 0x7FFFFF) > F.target_mantissa).to(tl.int32)
        if F.target_exponent == 0:  # a subnormal amax has no hidden bit; with larger targets its field is 0 anyway
            field = tl.where(bits < (1 << 23), (amax > F.target * 2.0**-127).to(tl.int32), field)
    elif F.rule == "floor":
        field = (bits_of(amax) >> 23) - F.target_exponent
    else:
        field = ((bits_of(amax) + F.carry) >> 23) - F.target_exponent
    code = tl.minimum(tl.maximum(field, 0), 254)
    code = tl.where(amax == 0.0, F.zero_code, code)
    return tl.where(bits_of(amax) >= 0x7F800000, 255, code)


@triton.jit
def power_values(code):
    """The fp32 value of exponents; 2^-127 is subnormal."""
    value = from_bits(tl.where(code == 0, 1 << 22, code << 23))
    return tl.where(code == 255, float("nan"), value)


@triton.jit
def stored_scale(amax, scale_2, F: tl.constexpr):
    """What is stored of a block's scale: fp32, or a code as int32.

    Args:
        amax: fp32, not negative or NaN.
        scale_2: the outer scale; 1.0 where the format has none.
    """
    if F.scale == "fp32":
        return fp32_scale(tl.div_rn(amax, F.target), amax, F.zero_block)
    elif F.scale == "power":
        return power_codes(amax, F)
    else:
        whole = F.target * scale_2
        power = power_for(whole)
        divisor = whole * power
        unit = divided(tl.minimum(amax * power, divisor * F.scale_high), divisor, inverse_of(divisor))
        unit = tl.where(amax == 0.0, F.zero_block, tl.maximum(unit, F.scale_low))
        broken = bits_of(amax) >= 0x7F800000
        if F.outer:
            broken |= tl.where(scale_2 == scale_2, 0, bits_of(amax)) > 0  # not a block of zeros
        if INTERPRETED:
            code = encode_magnitude(unit, F.s_mantissa_bits, F.s_lowest)
        else:
            code = unit.to(tl.float8e4nv).to(tl.uint8, bitcast=True).to(tl.int32)
        return tl.where(broken, 127, code)


@triton.jit
def scale_codes(stored, F: tl.constexpr):
    """The values, fp32, of codes of scales that are small floats."""
    if INTERPRETED:
        return tl.where(stored == 127, float("nan"), decode_float(stored, 8, F.s_mantissa_bits, F.s_lift))
    else:
        return stored.to(tl.uint8).to(tl.float8e4nv, bitcast=True).to(tl.float32)


@triton.jit
def multiplier(stored, scale_2, F: tl.constexpr):
    """What codes are multiplied by, fp32, from what is stored."""
    if F.scale == "fp32":
        return stored
    elif F.scale == "power":
        return power_values(stored)
    else:
        return scale_codes(stored, F) * scale_2
