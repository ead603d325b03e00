"""Casts between fp32 values and the codes of an element type, exact for every input."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from mtcore.formats import CodedElement, FloatElement, IntElement, PowerOfTwoElement, TableElement
from mtcore.formats.element import E4M3, E5M2

NATIVE_FLOATS = {E4M3: torch.float8_e4m3fn, E5M2: torch.float8_e5m2}
"""Elements that torch stores itself. Its cast rounds to nearest even; saturation is ours, before the cast."""

_FP32_MANTISSA_BITS = 23
_FP32_BIAS = 127


def round_to_element(x: Tensor, element: CodedElement) -> Tensor:
    """Round fp32 values to the element's values: to nearest, ties to even code, saturating at its range.

    Args:
        x: fp32, any shape, in units of the element (already divided by the scale).
        element: what to round to.

    Returns:
        fp32 of the same shape. NaN stays NaN if the element has a NaN, else becomes 0. Elements under 8 bits have
        no use for the sign of an input zero: -0.0 becomes +0.0, while a negative value that rounds to zero keeps
        its sign (the E2M1 rule of NVIDIA's and vLLM's packers).
    """
    match element:
        case IntElement():
            return torch.nan_to_num(x, nan=0.0).round_().clamp_(element.min, element.max).add_(0.0)
        case FloatElement():
            return _round_float(x, element)
        case PowerOfTwoElement():
            raise NotImplementedError("powers of two are scales; scaling.py rounds them by a named rule")
        case TableElement():
            return _decode_table(element, x.device)[_nearest_entry(x, element).int()]


def encode(x: Tensor, element: CodedElement) -> Tensor:
    """Round fp32 values and give their codes: int8 for signed 8-bit integers, torch's float8 types, else uint8.

    Codes under 8 bits are one to a byte here (see `pack`), in the low bits, two's complement for integers.
    """
    match element:
        case IntElement():
            rounded = round_to_element(x, element)
            if element.bits == 8 and element.signed:
                return rounded.to(torch.int8)
            return rounded.to(torch.int16).bitwise_and_(2**element.bits - 1).to(torch.uint8)
        case FloatElement() if element in NATIVE_FLOATS:
            return _saturate(x, element).to(NATIVE_FLOATS[element])
        case FloatElement():
            return _encode_float(_round_float(x, element), element)
        case PowerOfTwoElement():
            raise NotImplementedError("powers of two are scales; scaling.py encodes them")
        case TableElement():
            return _nearest_entry(x, element)


def decode(codes: Tensor, element: CodedElement) -> Tensor:
    """The fp32 value of every code that `encode` gives (uint8 for E8M0 exponents)."""
    if codes.dtype != torch.uint8:
        return codes.float()
    return _decode_table(element, codes.device)[codes.int()]


@lru_cache(maxsize=64)
def _decode_table(element: CodedElement, device: torch.device) -> Tensor:
    return torch.tensor(element.values, dtype=torch.float64).to(torch.float32).to(device)


def _saturate(x: Tensor, element: FloatElement) -> Tensor:
    """Clamp to the finite range; NaN passes through (torch's clamp keeps it)."""
    return x.clamp(element.min, element.max)


def _round_float(x: Tensor, element: FloatElement) -> Tensor:
    if element in NATIVE_FLOATS:
        return _saturate(x, element).to(NATIVE_FLOATS[element]).float()
    magnitude = torch.nan_to_num(x.abs(), nan=0.0, posinf=element.max).clamp_(max=element.max)
    step = _step(magnitude, element)
    rounded = magnitude.div_(step).round_().mul_(step)  # step is a power of two: division and product are exact
    return torch.where(x < 0, -rounded, rounded)


def _step(magnitude: Tensor, element: FloatElement) -> Tensor:
    """The distance between neighbouring element values at each magnitude: a power of two, built from fp32 bits."""
    lowest = (1 - element.bias + _FP32_BIAS) << _FP32_MANTISSA_BITS
    exponent = magnitude.view(torch.int32).bitwise_and(0x7F800000).clamp_(min=lowest)
    return exponent.sub_(element.mantissa_bits << _FP32_MANTISSA_BITS).view(torch.float32)


def _encode_float(rounded: Tensor, element: FloatElement) -> Tensor:
    """Codes of values that lie on the element's grid already: one byte each."""
    magnitude = rounded.abs()
    normal = (magnitude.view(torch.int32) >> (_FP32_MANTISSA_BITS - element.mantissa_bits)) - (
        (_FP32_BIAS - element.bias) << element.mantissa_bits
    )
    subnormal = (magnitude * (1.0 / element.smallest_subnormal)).to(torch.int32)
    codes = torch.where(magnitude < element.smallest_normal, subnormal, normal)
    sign = torch.signbit(rounded).to(torch.int32) << (element.bits - 1)
    return codes.bitwise_or_(sign).to(torch.uint8)


def _nearest_entry(x: Tensor, element: TableElement) -> Tensor:
    """Index of the nearest table entry; a value midway between two goes to the even index; NaN goes to 0.0's."""
    table = torch.tensor(element.table, dtype=torch.float32, device=x.device)
    middle = (table[1:] + table[:-1]) / 2
    safe = torch.nan_to_num(x, nan=0.0)
    # With right=False a tie stays below its boundary; at odd lower indices it must go up to the even one.
    index = torch.bucketize(safe, middle, out_int32=True)
    on_tie = (safe == middle[index.clamp(max=len(middle) - 1)]) & (index < len(middle))
    return (index + (on_tie & (index % 2 == 1)).int()).to(torch.uint8)
