"""Casts between fp32 values and the codes of an element type, exact for every input."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.errors import FormatError
from mtcore.formats import CodedElement, FloatElement, IntElement, PowerOfTwoElement, TableElement
from mtcore.formats.element import E4M3, E5M2
from mtcore.numerics.codebook import entries, nearest_entry
from mtcore.numerics.minifloat import decode_minifloat, encode_minifloat, round_minifloat
from mtcore.numerics.powers import decode_powers

NATIVE_FLOATS = {E4M3: torch.float8_e4m3fn, E5M2: torch.float8_e5m2}
"""Elements that torch stores itself. Its cast rounds to nearest even; saturation is ours, before the cast."""


def round_to_element(x: Tensor, element: CodedElement) -> Tensor:
    """Round fp32 values to the element's values: to nearest, ties to even code, saturating at its range.

    Args:
        x: fp32, any shape, in units of the element (already divided by the scale).
        element: what to round to; not a power of two, for these are rounded by a scale's named rule.

    Returns:
        fp32 of the same shape. NaN stays NaN if the element has a NaN, else becomes 0. Elements under 8 bits have
        no use for the sign of an input zero: -0.0 becomes +0.0, while a negative value that rounds to zero keeps
        its sign (the E2M1 rule of NVIDIA's and vLLM's packers).
    """
    return round_canonical(canonical_zero(x, element), element)


def encode(x: Tensor, element: CodedElement) -> Tensor:
    """Round fp32 values and give their codes: int8 for signed 8-bit integers, torch's float8 types, else uint8.

    Codes under 8 bits are one to a byte here (see `pack`), in the low bits, two's complement for integers.
    """
    return encode_canonical(canonical_zero(x, element), element)


def decode(codes: Tensor, element: CodedElement) -> Tensor:
    """The fp32 value of every code that `encode` gives (uint8 for E8M0 exponents)."""
    match element:
        case IntElement():
            if element.signed and codes.dtype == torch.uint8:
                codes = _sign_extended(codes, element)
            return codes.float().mul_(element.step)
        case FloatElement() if element in NATIVE_FLOATS:
            return codes.view(NATIVE_FLOATS[element]).float()
        case FloatElement():
            return decode_minifloat(codes, element)
        case PowerOfTwoElement():
            return decode_powers(codes, element)
        case TableElement():
            return entries(codes, element)


def canonical_zero(x: Tensor, element: CodedElement) -> Tensor:
    """x with -0.0 turned into +0.0, for the elements whose zero codes are not meant to carry a sign by themselves.

    Done before the division by a scale, it leaves a sign on exactly those zeros that were negative numbers.
    """
    return x + 0.0 if isinstance(element, FloatElement) and element.bits < 8 else x


def round_canonical(x: Tensor, element: CodedElement) -> Tensor:
    """`round_to_element` without the rule about -0.0."""
    match element:
        case IntElement():
            return _nearest_integer(x, element).mul_(element.step)
        case FloatElement():
            known = x if element.specials != "none" else torch.nan_to_num(x, nan=0.0, posinf=torch.inf)
            return round_minifloat(known, element)
        case PowerOfTwoElement():
            raise FormatError(f"{element.name} is an element for scales: these are rounded by their named rule")
        case TableElement():
            return entries(nearest_entry(x, element), element)


def encode_canonical(x: Tensor, element: CodedElement) -> Tensor:
    """`encode` without the rule about -0.0."""
    match element:
        case IntElement() if element.bits == 8:
            return _nearest_integer(x, element).to(torch.int8 if element.signed else torch.uint8)
        case IntElement():
            return _nearest_integer(x, element).to(torch.int8).bitwise_and_(2**element.bits - 1).view(torch.uint8)
        case FloatElement() if element in NATIVE_FLOATS:
            return x.clamp(element.min, element.max).to(NATIVE_FLOATS[element])  # clamp keeps NaN
        case FloatElement():
            return encode_minifloat(x, element)
        case PowerOfTwoElement():
            raise FormatError(f"{element.name} is an element for scales: these are rounded by their named rule")
        case TableElement():
            return nearest_entry(x, element)


def _nearest_integer(x: Tensor, element: IntElement) -> Tensor:
    """Values in whole steps, clamped to the element's codes; NaN becomes 0 and no zero is negative."""
    steps = torch.nan_to_num(x, nan=0.0).mul_(2.0**element.fraction_bits)
    low, high = element.min / element.step, element.max / element.step
    return steps.round_().clamp_(low, high).add_(0.0)


def _sign_extended(codes: Tensor, element: IntElement) -> Tensor:
    sign = 2 ** (element.bits - 1)
    return codes.view(torch.int8).bitwise_xor(sign).sub_(sign)
