"""Constants: what a kernel must know of a format, as plain numbers that are compiled into it."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

from mtcore.backends import format_of_key
from mtcore.formats import (
    E4M3,
    E5M2,
    Float32Element,
    FloatElement,
    IntElement,
    PowerOfTwoElement,
    TensorFormat,
)

_BIAS, _MANTISSA_BITS = 127, 23


class Coded(NamedTuple):
    """A float element in terms of fp32's bits, or an integer element.

    Attributes:
        is_int: which of the two.
        bits: of a code.
        low, high: the range; of an integer, in steps.
        unit: steps in one.
        mantissa_bits: of a float.
        lowest: the exponent field, in place, of a float's smallest normal value.
        has_nan, has_inf: which special codes a float has.
        is_e4m3: whether it is the element that GPUs cast to themselves.
        lift: 2^(127 - bias): what the bits of a code, moved to fp32's place, must be multiplied by.
        carrier: the 8-bit float to which GPUs cast and whose codes those of 6 bits are, for numbers times `shrink`:
            "e4m3", "e5m2", or "" for none.
    """

    is_int: bool
    bits: int
    low: float
    high: float
    unit: float
    mantissa_bits: int
    lowest: int
    has_nan: bool
    has_inf: bool
    is_e4m3: bool
    lift: float
    carrier: str
    shrink: float


class Constants(NamedTuple):
    """A format, flat. `e_`: its element, `s_`: the element of its inner scales where that is a small float.

    Attributes:
        s_largest: the code of the largest of these scales.
        scale: "fp32", "float" or "power", the kind of its inner scales.
        rule: how powers of two are rounded.
        target: the value on which a block's amax lands; `target_exponent` is its exponent,
            `target_mantissa` the bits of fp32 behind the point.
        carry: what the rule "half_up" adds to the bits of amax.
        zero_block: the scale of a block of zeros; `zero_code`: its code among powers of two.
        scale_low, scale_high: the range to which scales are clamped.
        outer: whether there is a second level; `outer_target` and `outer_zero` as for the first.
    """

    e_is_int: bool
    e_bits: int
    e_low: float
    e_high: float
    e_unit: float
    e_mantissa_bits: int
    e_lowest: int
    e_has_nan: bool
    e_has_inf: bool
    e_is_e4m3: bool
    e_lift: float
    e_carrier: str
    e_shrink: float
    s_mantissa_bits: int
    s_lowest: int
    s_lift: float
    s_largest: int
    scale: str
    rule: str
    target: float
    target_exponent: int
    target_mantissa: int
    carry: int
    zero_block: float
    zero_code: int
    scale_low: float
    scale_high: float
    outer: bool
    outer_target: float
    outer_zero: float


def coded(element: IntElement | FloatElement) -> Coded:
    """The constants of an element."""
    if isinstance(element, IntElement):
        low, high = element.min / element.step, element.max / element.step
        return Coded(True, element.bits, low, high, 1.0 / element.step, 0, 0, False, False, False, 1.0, "", 1.0)
    return Coded(
        False,
        element.bits,
        element.min,
        element.max,
        1.0,
        element.mantissa_bits,
        (1 - element.bias + _BIAS) << _MANTISSA_BITS,
        element.specials != "none",
        element.specials == "ieee",
        element == E4M3,
        2.0 ** (_BIAS - element.bias),
        *_carrier(element),
    )


def _carrier(element: FloatElement) -> tuple[str, float]:
    for name, wide in {"e4m3": E4M3, "e5m2": E5M2}.items():
        fits = element.exponent_bits <= wide.exponent_bits and element.mantissa_bits == wide.mantissa_bits
        if element.bits == 6 and element.specials == "none" and fits:
            return name, wide.smallest_normal / element.smallest_normal
    return "", 1.0


def refusal(fmt: TensorFormat) -> str | None:
    """Why no kernel here knows a format; None if they do."""
    inner = fmt.inner.element
    if not fmt.symmetric:
        return "has no kernel for zero points"
    if fmt.via is not None:
        return "has no kernel for formats of two stages"
    if not isinstance(fmt.element, (IntElement, FloatElement)) or not fmt.element.signed:
        return f"has no kernel for the element {fmt.element.name}"
    if not (isinstance(inner, (Float32Element, PowerOfTwoElement)) or _is_scale_float(inner)):
        return f"has no kernel for scales in {inner.name}"
    if fmt.outer is not None and not isinstance(inner, FloatElement):
        return "has no kernel for this pair of scales"
    return None


def _is_scale_float(element: object) -> bool:
    return element == E4M3


@cache
def constants_of(fmt: TensorFormat) -> Constants:
    """The constants of a format that is not refused."""
    assert refusal(fmt) is None, f"{fmt.name}: {refusal(fmt)}"
    element = coded(fmt.element)  # type: ignore[arg-type]
    level = fmt.inner
    small = coded(level.element) if isinstance(level.element, FloatElement) else coded(FloatElement(4, 3))
    power = isinstance(level.element, PowerOfTwoElement)
    kind = "power" if power else "float" if isinstance(level.element, FloatElement) else "fp32"
    low = level.smallest if level.smallest is not None else level.element.min
    return Constants(
        *element,
        s_mantissa_bits=small.mantissa_bits,
        s_lowest=small.lowest,
        s_lift=small.lift,
        s_largest=0x7E if kind == "float" else 0,
        scale=kind,
        rule=level.rounding,
        target=fmt.target,
        target_exponent=math.frexp(fmt.target)[1] - 1,
        target_mantissa=round((math.frexp(fmt.target)[0] * 2 - 1) * 2**_MANTISSA_BITS),
        carry=round((2.0 - level.round_up_from) * 2**_MANTISSA_BITS),
        zero_block=level.zero_block,
        zero_code=math.frexp(level.zero_block)[1] - 1 + _BIAS,
        scale_low=low,
        scale_high=level.element.max,
        outer=fmt.outer is not None,
        outer_target=fmt.outer_target if fmt.outer is not None else 1.0,
        outer_zero=fmt.outer.zero_block if fmt.outer is not None else 1.0,
    )


class Known(NamedTuple):
    """A format key, read once."""

    fmt: TensorFormat
    constants: Constants


@cache
def known(key: str) -> Known:
    """The format of a key with its constants."""
    fmt = format_of_key(key)
    return Known(fmt, constants_of(fmt))
