"""Elements on the GPU: rounding, encoding and decoding by the bits of fp32, as `mtcore.numerics.minifloat` does.

Nothing here uses the casts of a framework or of the hardware, so that the interpreter, every architecture and the
specification agree bit for bit. A value among steps of 2^k is rounded by adding and taking off 2^(k + 23): fp32's
own addition rounds to nearest, ties to even.
"""

from __future__ import annotations

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter, whose cast to bf16 truncates."""

EXPONENT_MASK = tl.constexpr(0x7F800000)
MAGNITUDE_MASK = tl.constexpr(0x7FFFFFFF)
INTEGER_ROUNDER = tl.constexpr(12582912.0)  # 1.5 · 2^23: its last bit counts ones
INTEGER_ROUNDER_BITS = tl.constexpr(0x4B400000)


@triton.jit
def bits_of(x):
    """The bits of fp32 values as int32."""
    return x.to(tl.int32, bitcast=True)


@triton.jit
def from_bits(bits):
    """The fp32 values that int32 bits mean."""
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def magnitude_bits(x):
    """Bits that order like |x|, with NaN above infinity: an int32 maximum finds the amax and keeps NaN."""
    return bits_of(x.to(tl.float32)) & MAGNITUDE_MASK


@triton.jit
def rounder(magnitude, MANTISSA_BITS: tl.constexpr, LOWEST: tl.constexpr):
    """The exponent field of each magnitude, not below the smallest normal's, and 2^23 steps there as fp32 bits."""
    exponent = tl.maximum(bits_of(magnitude) & EXPONENT_MASK, LOWEST)
    return exponent, exponent + ((23 - MANTISSA_BITS) << 23)


@triton.jit
def readable(x, F: tl.constexpr, MAY_BE_NAN: tl.constexpr):
    """x as fp32, what it must be before it is divided by its scale.

    Elements under 8 bits do not keep the sign of -0.0. NaN is 0 for elements without one; where the scale is that
    of the values themselves, it has made the whole block NaN already, and there is nothing to do.
    """
    x = x.to(tl.float32)
    if MAY_BE_NAN and not F.e_has_nan:
        x = tl.where(x == x, x, 0.0)
    if not F.e_is_int and F.e_bits < 8:
        x = x + 0.0
    return x


@triton.jit
def divider(times, F: tl.constexpr):
    """What `quotient` needs of a divisor, worked out once a block: (power, divisor, inverse, high, low).

    The power of two brings the divisor into [2^-22, 8), where no step of the division over- or underflows. A
    divisor that is NaN makes the quotients NaN, or 0 for elements without NaN. Integers are counted in steps.
    """
    times = times * (1.0 / F.e_unit)  # exact: a power of two, and no scale is that small
    field = tl.minimum(tl.maximum(254 - ((bits_of(times) >> 23) & 255), 1), 254)
    power = from_bits(field << 23)
    divisor = times * power
    if not F.e_has_nan:
        power = tl.where(times == times, power, 0.0)
        divisor = tl.where(times == times, divisor, 1.0)
    inverse = tl.div_rn(1.0, divisor)
    return power, divisor, inverse, divisor * F.e_high, divisor * F.e_low


@triton.jit
def quotient(x, power, divisor, inverse, high, low, F: tl.constexpr):
    """x / times, correctly rounded, within the element's range; of floats the magnitude. fp32.

    Markstein's division ("Computation of elementary functions on the IBM RISC System/6000", 1990): with a correctly
    rounded inverse, the first correction gives a neighbour of the quotient and the second one the quotient itself.
    What is too small for it (underflow) is below half the smallest step and becomes 0. Cutting off at the range
    before the division instead of after it gives the same codes: the cut quotient is off by half a unit in the last
    place of fp32, which the rounding to the element swallows.
    """
    a = x * power
    if F.e_is_int:
        a = tl.minimum(tl.maximum(a, low), high)
    elif F.e_has_nan:
        a = tl.minimum(tl.abs(a), high, propagate_nan=tl.PropagateNan.ALL)
    else:
        a = tl.minimum(tl.abs(a), high)
    if INTERPRETED:  # its fma rounds twice
        return tl.div_rn(a, divisor)
    else:
        q = a * inverse
        q = tl.fma(tl.fma(-divisor, q, a), inverse, q)
        return tl.fma(tl.fma(-divisor, q, a), inverse, q)


@triton.jit
def round_units(units, x, F: tl.constexpr):
    """The element's value nearest to `units` (see `quotient`), with the sign of x: fp32."""
    if F.e_is_int:
        return ((units + INTEGER_ROUNDER) - INTEGER_ROUNDER) * (1.0 / F.e_unit)
    else:
        _, magic = rounder(units, F.e_mantissa_bits, F.e_lowest)
        rounded = (units + from_bits(magic)) - from_bits(magic)
        return from_bits(bits_of(rounded) | (bits_of(x) & ~MAGNITUDE_MASK))


@triton.jit
def encode_magnitude(magnitude, MANTISSA_BITS: tl.constexpr, LOWEST: tl.constexpr):
    """The code of a magnitude within the range of a float element, int32."""
    exponent, magic = rounder(magnitude, MANTISSA_BITS, LOWEST)
    steps = bits_of(magnitude + from_bits(magic)) - magic
    return steps + ((exponent - LOWEST) >> (23 - MANTISSA_BITS))


@triton.jit
def encode_units(units, x, signed, F: tl.constexpr):
    """The codes of `round_units`, in the low bits of int32. `signed` is false where the scale is NaN, codes 0."""
    if F.e_is_int:
        return (bits_of(units + INTEGER_ROUNDER) - INTEGER_ROUNDER_BITS) & ((1 << F.e_bits) - 1)
    else:
        sign_place: tl.constexpr = 1 << (F.e_bits - 1)
        code = encode_magnitude(units, F.e_mantissa_bits, F.e_lowest)
        sign = bits_of(x) >> (32 - F.e_bits)
        if F.e_has_nan:
            code = tl.where(units == units, code, sign_place - 1)
            return code | (sign & sign_place)
        else:
            return code | (sign & tl.where(signed, sign_place, 0))


@triton.jit
def decode_float(code, BITS: tl.constexpr, MANTISSA_BITS: tl.constexpr, LIFT: tl.constexpr):
    """The value of the code of a float that is no special, fp32. The product with LIFT is exact, subnormals too."""
    sign_place: tl.constexpr = 1 << (BITS - 1)
    magnitude = (code & (sign_place - 1)) << (23 - MANTISSA_BITS)
    sign = (code & sign_place) << (32 - BITS)
    return from_bits(magnitude | sign) * LIFT


@triton.jit
def decode_element(code, F: tl.constexpr):
    """The value of every code (int32, low bits), fp32."""
    if F.e_is_int:
        sign_place: tl.constexpr = 1 << (F.e_bits - 1)
        value = (((code & ((1 << F.e_bits) - 1)) ^ sign_place) - sign_place).to(tl.float32) * (1.0 / F.e_unit)
    else:
        value = decode_float(code, F.e_bits, F.e_mantissa_bits, F.e_lift)
    if F.e_has_inf:
        field: tl.constexpr = ((1 << (F.e_bits - 1 - F.e_mantissa_bits)) - 1) << F.e_mantissa_bits
        infinite = tl.where(value < 0, float("-inf"), float("inf"))
        value = tl.where((code & field) == field, infinite, value)
        is_nan = ((code & field) == field) & ((code & ((1 << F.e_mantissa_bits) - 1)) != 0)
        value = tl.where(is_nan, float("nan"), value)
    elif F.e_has_nan:
        magnitude: tl.constexpr = (1 << (F.e_bits - 1)) - 1
        value = tl.where((code & magnitude) == magnitude, float("nan"), value)
    return value


@triton.jit
def cast(x, DTYPE: tl.constexpr):
    """fp32 to the dtype of the result, to nearest, ties to even."""
    if INTERPRETED and tl.bfloat16 == DTYPE:
        bits = bits_of(x)
        even = (bits + 0x7FFF + ((bits >> 16) & 1)) & ~0xFFFF
        x = from_bits(tl.where(x == x, even, 0x7FC00000))
    return x.to(DTYPE)
