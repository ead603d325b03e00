"""Powers of two as scales (E8M0): the three rules, by the bits of fp32, never by a logarithm.

log2 in fp32 is wrong by one just beside many powers of two; the exponent field is not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtcore.errors import FormatError
from mtcore.formats import PowerOfTwoElement, Scale
from mtcore.numerics.quotient import quotient

_MANTISSA_BITS = 23
_MANTISSA_MASK = 2**_MANTISSA_BITS - 1
_BIAS = 127


def power_of_two_codes(amax: Tensor, target: float, level: Scale) -> Tensor:
    """The exponents, uint8, of scales for blocks with the given largest magnitudes.

    Args:
        amax: fp32, not negative.
        target: the element value on which amax may land.
        level: its `rounding` names the rule, see `ScaleRounding`; its `zero_block` must be a power of two.
            `half_up` takes the mantissa field as it stands, which differs from the stated rule for a subnormal amax
            and a target below 2 only.

    Returns:
        uint8 of amax's shape; all bits set (NaN) where amax is not finite.
    """
    element = level.element
    assert isinstance(element, PowerOfTwoElement)
    match level.rounding:
        case "up":
            field = _field_above(quotient(amax, target))
        case "floor":
            field = (amax.view(torch.int32) >> _MANTISSA_BITS) - _exponent(target)
        case "half_up":
            carry = round((2.0 - level.round_up_from) * 2**_MANTISSA_BITS)
            field = ((amax.view(torch.int32) + carry) >> _MANTISSA_BITS) - _exponent(target)
        case _:
            raise FormatError(f"a power of two cannot be rounded {level.rounding!r}")
    nan = 2**element.bits - 1
    codes = field.add_(element.bias - _BIAS).clamp_(0, nan - 1)
    codes = codes.masked_fill_(amax == 0, _exponent(level.zero_block) + element.bias)
    return codes.masked_fill_(~amax.isfinite(), nan).to(torch.uint8)


def decode_powers(codes: Tensor, element: PowerOfTwoElement) -> Tensor:
    """The fp32 value of every code (uint8)."""
    field = codes.to(torch.int32).add_(_BIAS - element.bias)
    bits = (field << _MANTISSA_BITS).masked_fill_(field == 0, 1 << (_MANTISSA_BITS - 1))  # 2^-127 is subnormal
    return bits.view(torch.float32).masked_fill_(codes == 2**element.bits - 1, torch.nan)


def _field_above(ratio: Tensor) -> Tensor:
    """The fp32 exponent field of the least power of two in [2^-127, …) that is not below each ratio."""
    bits = ratio.view(torch.int32)
    field, mantissa = bits >> _MANTISSA_BITS, bits & _MANTISSA_MASK
    # A subnormal ratio (field 0) has no hidden bit: up to 2^-127, that is mantissa 2^22, field 0 is enough.
    enough = (field == 0).int() << (_MANTISSA_BITS - 1)
    least: Tensor = field + (mantissa > enough).int()
    return least


def _exponent(value: float) -> int:
    return math.frexp(value)[1] - 1
