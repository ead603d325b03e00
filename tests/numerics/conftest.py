"""An exact oracle: every format by rational arithmetic on single numbers, without torch or bit tricks."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import pytest

from mtcore.formats import FloatElement, IntElement, PowerOfTwoElement, TableElement, TensorFormat

FP32 = (23, -126, 127)
PRECISION = {"torch.float32": FP32, "torch.float16": (10, -14, 15), "torch.bfloat16": (7, -126, 127)}


def floor_log2(value: Fraction) -> int:
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    return exponent if value >= Fraction(2) ** exponent else exponent - 1


def ieee(value: Fraction, precision: tuple[int, int, int] = FP32) -> Fraction:
    """Round to an IEEE binary format: (mantissa bits, least exponent, greatest exponent). Must not overflow."""
    if value == 0:
        return value
    bits, least, greatest = precision
    step = Fraction(2) ** (max(floor_log2(abs(value)), least) - bits)
    rounded = round(value / step) * step  # Python rounds a Fraction half to even
    if abs(rounded) >= Fraction(2) ** (greatest + 1):
        raise OverflowError(float(value))
    return rounded


@lru_cache
def ladder(element) -> tuple[list[Fraction], list[int]]:
    """The finite values of an element in ascending order, each with its code; of two zeros the positive one."""
    codes = {}
    for code, value in enumerate(element.values):
        if math.isfinite(value) and element.min <= value <= element.max:
            exact = ieee(Fraction(value)) if isinstance(element, TableElement) else Fraction(value)
            codes.setdefault(exact, code)
    values = sorted(codes)
    return values, [codes[value] for value in values]


def nearest(value: Fraction, element) -> tuple[Fraction, int]:
    """The nearest value of the element and its code; ties go to the even code, the ends saturate."""
    values, codes = ladder(element)
    above = min(bisect_left(values, value), len(values) - 1)
    below = max(above - 1, 0)
    gaps = abs(values[above] - value), abs(value - values[below])
    index = above if gaps[0] < gaps[1] or (gaps[0] == gaps[1] and codes[above] % 2 == 0) else below
    return values[index], codes[index]


@dataclass
class Expected:
    """What one block must become: the stored scale's value, its zero point, the codes and the fp32 values."""

    scale: Fraction
    zero_point: int | None
    codes: list[int]
    values: list[Fraction]


class Oracle:
    """Quantizes one block of numbers by the definition of a format. All inputs are finite."""

    ieee = staticmethod(ieee)
    nearest = staticmethod(nearest)
    precision = PRECISION

    def outer_scale(self, numbers: list[Fraction], fmt: TensorFormat) -> Fraction | None:
        if fmt.outer is None:
            return None
        return ieee(max(map(abs, numbers)) / Fraction(fmt.outer_target)) or Fraction(fmt.outer.zero_block)

    def block(self, numbers: list[Fraction], fmt: TensorFormat, outer: Fraction | None) -> Expected:
        scale, zero_point = self._scale(numbers, fmt, outer)
        step = scale if outer is None or fmt.via is not None else ieee(scale * outer)
        codes, values = [], []
        for number in numbers:
            units = ieee(number / step)
            if zero_point is not None:
                units = Fraction(round(units) + zero_point)
            value, code = nearest(units, fmt.element)
            if number < 0 and value == 0 and isinstance(fmt.element, FloatElement):
                code |= 1 << (fmt.element.bits - 1)
            meaning = ieee((value - (zero_point or 0)) * step)
            if fmt.via is not None:
                meaning = ieee(nearest(ieee(meaning / outer), fmt.via)[0] * outer)
            codes.append(code)
            values.append(meaning)
        return Expected(scale, zero_point, codes, values)

    def _scale(self, numbers, fmt, outer) -> tuple[Fraction, int | None]:
        level = fmt.inner
        if not fmt.symmetric:
            return self._range_scale(numbers, fmt)
        amax, target = max(map(abs, numbers), default=Fraction(0)), Fraction(fmt.target)
        if amax == 0:
            return Fraction(level.zero_block), None
        if isinstance(level.element, PowerOfTwoElement):
            return self._power(amax, target, level), None
        unit = ieee(amax / target) if outer is None or fmt.via is not None else ieee(amax / ieee(target * outer))
        if not isinstance(level.element, FloatElement):
            return unit or Fraction(level.zero_block), None
        return nearest(max(unit, Fraction(level.smallest or 0)), level.element)[0], None

    def _range_scale(self, numbers, fmt) -> tuple[Fraction, int]:
        element: IntElement = fmt.element
        low, high = min([*numbers, Fraction(0)]), max([*numbers, Fraction(0)])
        levels = Fraction(element.max) - Fraction(element.min)
        scale = ieee(ieee(high - low) / levels) or Fraction(fmt.inner.zero_block)
        zero_point = round(ieee(-low / scale)) + int(element.min)
        return scale, min(max(zero_point, int(element.min)), int(element.max))

    def _power(self, amax, target, level) -> Fraction:
        if level.rounding == "up":
            ratio = ieee(amax / target)
            exponent = floor_log2(ratio) if ratio else -127
            exponent += ratio > Fraction(2) ** exponent
        else:
            exponent = floor_log2(amax)
            exponent += level.rounding == "half_up" and amax / Fraction(2) ** exponent >= Fraction(
                level.round_up_from
            )
            exponent -= floor_log2(target)
        return Fraction(2) ** min(max(exponent, -127), 127)


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    return Oracle()
