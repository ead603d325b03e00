"""Elements on the GPU: rounding, encoding and decoding by the bits of fp32, as `mtcore.numerics.minifloat` does.

Apart from E4M3, which GPUs cast as the specification does, nothing here uses the casts of a framework or of the
hardware, so that the interpreter, every architecture and the specification agree bit for bit. A value among steps
of 2^k is rounded by adding and taking off 2^(k + 23): fp32's own addition rounds to nearest, ties to even.
"""

from __future__ import annotations

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter, whose cast to bf16 truncates."""

EXPONENT_MASK = tl.constexpr(0x7F800000)
MAGNITUDE_MASK = tl.constexpr(0x7FFFFFFF)
INTEGER_ROUNDER = tl.constexpr(12582912.0)  # 1.5 · 2^23: its last bit counts ones, its last 22 are 0


@triton.jit
def bits_of(x):
    """The bits of fp32 values as int32."""
    return x.to(tl.int32, bitcast=True)


@triton.jit
def from_bits(bits):
    """The fp32 values that int32 bits mean."""
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def widened(x):
    """x in fp32. (The interpreter's own cast loses subnormal numbers of bf16.)"""
    if INTERPRETED and x.dtype == tl.bfloat16:
        return from_bits(x.to(tl.int16, bitcast=True).to(tl.int32) << 16)
    else:
        return x.to(tl.float32)


@triton.jit
def magnitude_bits(x):
    """Bits that order like |x|, with NaN above infinity: an int32 maximum finds the amax and keeps NaN."""
    return bits_of(widened(x)) & MAGNITUDE_MASK


@triton.jit
def larger(a, b):
    """The larger of two numbers; NaN if one is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def amax_along(x, AXIS: tl.constexpr):
    """The largest magnitude along an axis, fp32; NaN if there is one."""
    if INTERPRETED:
        return from_bits(tl.max(magnitude_bits(x), axis=AXIS))
    else:
        return tl.reduce(tl.abs(x.to(tl.float32)), AXIS, larger)


@triton.jit
def rounder(magnitude, MANTISSA_BITS: tl.constexpr, LOWEST: tl.constexpr):
    """2^23 steps at the exponent of each magnitude, at least at the smallest normal's, as fp32 bits."""
    up: tl.constexpr = (23 - MANTISSA_BITS) << 23
    return tl.maximum((bits_of(magnitude) & EXPONENT_MASK) + up, LOWEST + up)  # sm_90 has one instruction for it


@triton.jit
def readable(x, F: tl.constexpr, MAY_BE_NAN: tl.constexpr):
    """x as fp32. NaN is 0 for elements without one; where the scale is that of the values themselves, the whole
    block is NaN already, and there is nothing to do."""
    x = widened(x)
    if not F.e_has_nan and (INTERPRETED or (MAY_BE_NAN and F.e_is_int)):  # else `quotient` does it on the way
        x = tl.where(x == x, x, 0.0)
    return x


@triton.jit
def lifted(x, power, F: tl.constexpr):
    """x · power, where elements under 8 bits lose the sign of -0.0 but keep that of numbers too small for fp32."""
    if F.e_is_int or F.e_bits == 8:
        return x * power
    else:
        return tl.fma(x, tl.broadcast_to(power, x.shape), tl.zeros(x.shape, tl.float32))


@triton.jit
def product(a, b):
    """a · b in fp32, rounded by itself: the compiler does not fuse it with an addition that follows."""
    if INTERPRETED:
        return a * b
    else:
        return tl.inline_asm_elementwise(
            "mul.rn.f32 $0, $1, $2;", "=r,r,r", [a, b], dtype=tl.float32, is_pure=True, pack=1
        )


@triton.jit
def inverse_of(divisor):
    """1 / divisor, correctly rounded, for fp32 between 2^-22 and 8 (NaN stays)."""
    if INTERPRETED:
        return tl.div_rn(1.0, divisor)
    else:  # the steps of CUDA's own rcp.rn without its branch for extreme exponents
        guess = tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=r,r", [divisor], dtype=tl.float32, is_pure=True, pack=1
        )
        return tl.fma(guess, tl.fma(-divisor, guess, 1.0), guess)


@triton.jit
def power_for(divisor):
    """The power of two that brings a positive divisor into [2^-22, 8), where no division over- or underflows."""
    return from_bits(tl.maximum(254 - (bits_of(divisor) >> 23), 1) << 23)


@triton.jit
def divided(a, divisor, inverse):
    """a / divisor, correctly rounded, for a within a few powers of two of what matters (see `quotient`).

    Markstein's division ("Computation of elementary functions on the IBM RISC System/6000", 1990): with a correctly
    rounded inverse, the first correction gives a neighbour of the quotient and the second one the quotient itself.
    """
    if INTERPRETED:  # its fma rounds twice
        return tl.div_rn(a, divisor)
    else:
        q = a * inverse
        q = tl.fma(tl.fma(-divisor, q, a), inverse, q)
        return tl.fma(tl.fma(-divisor, q, a), inverse, q)


@triton.jit
def divider(times, F: tl.constexpr):
    """What `quotient` needs of a multiplier, worked out once a block: (power, divisor, inverse, high, low).

    Where the multiplier is NaN the quotients are NaN, or 0 for elements without NaN. Integers are counted in steps.
    """
    if F.scale == "power":
        # A power of two is divided by exactly by multiplying with its inverse, which is subnormal for 2^127.
        field = 254 - (bits_of(times) >> 23)
        field = tl.where(bits_of(times) < (1 << 23), 254, field)  # 2^-127 itself: 2^127
        power = from_bits(tl.where(field <= 0, 1 << 22, field << 23))
        divisor, inverse = times, times
        high, low = tl.full(times.shape, F.e_high, tl.float32), tl.full(times.shape, F.e_low, tl.float32)
    else:
        power = power_for(times)
        divisor = times * power
        inverse = inverse_of(divisor)
        high, low = divisor * F.e_high, divisor * F.e_low
    if F.e_has_nan:
        high = tl.where(times == times, high, float("nan"))
    else:  # NaN and infinities of the block too
        high, low = tl.where(times == times, high, 0.0), tl.where(times == times, low, 0.0)
        divisor, inverse = tl.where(times == times, divisor, 1.0), tl.where(times == times, inverse, 1.0)
    return power, divisor, inverse, high, low


@triton.jit
def quotient(a, divisor, inverse, high, low, F: tl.constexpr, MAY_BE_NAN: tl.constexpr):
    """What was `lifted` divided by the multiplier, correctly rounded, within the element's range; of floats the
    magnitude. fp32. MAY_BE_NAN as in `readable`.

    What is too small for the division (underflow) is below half the smallest step and becomes 0. Cutting off at the
    range before the division instead of after it gives the same codes: the cut quotient is off by half a unit in
    the last place of fp32, which the rounding to the element swallows.
    """
    if F.e_is_int:
        if F.scale == "power":
            a = a * F.e_unit
        a = tl.minimum(tl.maximum(a, low), high)
    elif F.e_has_nan:
        a = tl.minimum(tl.abs(a), high, propagate_nan=tl.PropagateNan.ALL)
    else:
        a = tl.abs(a)
        if MAY_BE_NAN and not INTERPRETED:  # of NaN and a number, the hardware takes the number
            a = tl.maximum(a, 0.0)
        a = tl.minimum(a, high)
    if F.scale == "power":
        return a
    else:
        return divided(a, divisor, inverse)


@triton.jit
def with_sign(magnitude, x):
    """A magnitude with the sign of x."""
    return from_bits(bits_of(magnitude) | (bits_of(x) & ~MAGNITUDE_MASK))


@triton.jit
def round_units(units, x, F: tl.constexpr):
    """The element's value nearest to `units` (see `quotient`), with the sign of x: fp32."""
    if F.e_is_int:
        return ((units + INTEGER_ROUNDER) - INTEGER_ROUNDER) * (1.0 / F.e_unit)
    elif F.e_is_e4m3 and not INTERPRETED:  # the hardware's own cast does the same, in fewer steps
        return with_sign(units, x).to(tl.float8e4nv).to(tl.float32)
    else:
        magic = rounder(units, F.e_mantissa_bits, F.e_lowest)
        return with_sign((units + from_bits(magic)) - from_bits(magic), x)


@triton.jit
def encode_magnitude(magnitude, MANTISSA_BITS: tl.constexpr, LOWEST: tl.constexpr):
    """The code of a magnitude within the range of a float element, int32."""
    magic = rounder(magnitude, MANTISSA_BITS, LOWEST)
    bits = bits_of(magnitude + from_bits(magic))
    # The low bits count steps; the exponent counts binades, of which each has 2^MANTISSA_BITS codes.
    lowest: tl.constexpr = (LOWEST >> (23 - MANTISSA_BITS)) + ((23 - MANTISSA_BITS) << MANTISSA_BITS)
    return (bits & ((4 << MANTISSA_BITS) - 1)) + (bits >> (23 - MANTISSA_BITS)) - lowest


@triton.jit
def encode_units(units, x, signed, F: tl.constexpr):
    """The codes of `round_units`, in the low bits of int32. `signed` is false where the scale is NaN, codes 0."""
    if F.e_is_int:
        return bits_of(units + INTEGER_ROUNDER) & ((1 << F.e_bits) - 1)
    elif F.e_is_e4m3 and not INTERPRETED:
        return with_sign(units, x).to(tl.float8e4nv).to(tl.uint8, bitcast=True).to(tl.int32)
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
    elif F.e_is_e4m3 and not INTERPRETED:
        value = code.to(tl.uint8).to(tl.float8e4nv, bitcast=True).to(tl.float32)
    else:
        value = decode_float(code, F.e_bits, F.e_mantissa_bits, F.e_lift)
    if F.e_has_inf:
        field: tl.constexpr = ((1 << (F.e_bits - 1 - F.e_mantissa_bits)) - 1) << F.e_mantissa_bits
        infinite = tl.where(value < 0, float("-inf"), float("inf"))
        value = tl.where((code & field) == field, infinite, value)
        is_nan = ((code & field) == field) & ((code & ((1 << F.e_mantissa_bits) - 1)) != 0)
        value = tl.where(is_nan, float("nan"), value)
    elif F.e_has_nan and (INTERPRETED or not F.e_is_e4m3):
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
