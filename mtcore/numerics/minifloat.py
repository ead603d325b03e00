"""Small floats: rounding, encoding and decoding by the bits of fp32, exact on every device.

A value a with exponent e lies among steps of 2^(e - mantissa bits). Adding the power of two that is 2^23 such steps
makes fp32's own addition round a to a whole number of steps, ties to even; that number is then in the low bits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtcore.formats import FloatElement

_MANTISSA_BITS = 23
_BIAS = 127
_EXPONENT_MASK = 0x7F800000


def round_minifloat(x: Tensor, element: FloatElement) -> Tensor:
    """Round fp32 values to the nearest value of the element, ties to even, saturating; signs and NaN stay."""
    magnitude = _magnitude(x, element)
    magic = _rounder(_exponent(magnitude, element), element)
    rounded = magnitude.add_(magic).sub_(magic)
    return rounded.copysign_(x) if element.signed else rounded


def encode_minifloat(x: Tensor, element: FloatElement) -> Tensor:
    """The codes of `round_minifloat`, uint8; NaN is all bits under the sign if the element has NaN, else 0."""
    finite = torch.nan_to_num(x, nan=0.0, posinf=element.max, neginf=element.min)
    magnitude = _magnitude(finite, element)
    exponent = _exponent(magnitude, element)
    magic = _rounder(exponent, element)
    steps = magnitude.add_(magic).view(torch.int32).sub_(magic.view(torch.int32))
    binades = exponent.sub_(_lowest(element)) >> (_MANTISSA_BITS - element.mantissa_bits)
    codes = steps.add_(binades)
    if element.signed:
        sign = finite.view(torch.int32) >> (32 - element.bits)
        codes.bitwise_or_(sign.bitwise_and_(1 << (element.bits - 1)))
    codes = codes.to(torch.uint8)
    if element.specials != "none":
        codes = codes.masked_fill_(x.isnan(), 2 ** (element.bits - element.signed) - 1)
    return codes


def decode_minifloat(codes: Tensor, element: FloatElement) -> Tensor:
    """The fp32 value of every code (uint8)."""
    code = codes.to(torch.int32)
    magnitude = code & (2 ** (element.bits - element.signed) - 1)
    binades = (magnitude >> element.mantissa_bits).sub_(1).clamp_(min=0)
    steps = magnitude.sub_(binades << element.mantissa_bits).float()
    step = binades.add_(_BIAS + 1 - element.bias - element.mantissa_bits) << _MANTISSA_BITS
    value: Tensor = steps.mul_(step.view(torch.float32))
    if element.signed:
        value = value.copysign((code << (32 - element.bits)).view(torch.float32))
    if element.specials != "none":
        for index, special in enumerate(element.values):
            if not math.isfinite(special):
                value = value.masked_fill_(codes == index, special)
    return value


def _magnitude(x: Tensor, element: FloatElement) -> Tensor:
    """|x| up to the element's largest value; without a sign, negative numbers saturate at zero."""
    return x.abs().clamp_(max=element.max) if element.signed else x.clamp(element.min, element.max)


def _lowest(element: FloatElement) -> int:
    """The fp32 exponent field of the element's smallest normal value, in place."""
    return (1 - element.bias + _BIAS) << _MANTISSA_BITS


def _exponent(magnitude: Tensor, element: FloatElement) -> Tensor:
    """The fp32 exponent fields of magnitudes, in place, within those of the element's normal values."""
    highest = (element.max_exponent + _BIAS) << _MANTISSA_BITS
    return magnitude.view(torch.int32).bitwise_and(_EXPONENT_MASK).clamp_(_lowest(element), highest)


def _rounder(exponent: Tensor, element: FloatElement) -> Tensor:
    """2^23 steps at each exponent, fp32."""
    return (exponent + ((_MANTISSA_BITS - element.mantissa_bits) << _MANTISSA_BITS)).view(torch.float32)
