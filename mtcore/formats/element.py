"""Element types: what one stored code can be, and the exact value of every code. No torch here.

An element is a frozen value. Everything else (largest value, number of bits, the value of a code) is derived
from its few fields, so that a constant such as 448 is stated nowhere else. Nothing is cached: a compiler that
follows the code into these properties meets plain arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Specials = Literal["none", "nan", "ieee"]
"""Which codes are not numbers: none; one NaN per sign (all bits set); or IEEE-754's infinities and NaNs."""


@dataclass(frozen=True)
class IntElement:
    """A two's-complement integer, or a fixed-point number: value = integer / 2^fraction_bits.

    `narrow` leaves out the most negative code, so that the range is symmetric. `fraction_bits` says where the
    binary point stands: MXINT8 of the OCP MX specification (section 5.3.4) counts in steps of 2^-6.

    Example:
        >>> IntElement(8, narrow=True).min, IntElement(8).min, IntElement(4, signed=False).max
        (-127.0, -128.0, 15.0)
        >>> IntElement(8, narrow=True, fraction_bits=6).max
        1.984375
    """

    bits: int
    signed: bool = True
    narrow: bool = False
    fraction_bits: int = 0

    @property
    def name(self) -> str:
        point = f"q{self.fraction_bits}" if self.fraction_bits else ""
        return f"{'' if self.signed else 'u'}int{self.bits}{'n' if self.narrow else ''}{point}"

    @property
    def step(self) -> float:
        """The distance between neighbouring values."""
        return math.ldexp(1.0, -self.fraction_bits)

    @property
    def max(self) -> float:
        """The largest value that a code can hold."""
        return float(2 ** (self.bits - self.signed) - 1) * self.step

    @property
    def min(self) -> float:
        """The smallest (most negative) value that `round_to_element` gives."""
        if not self.signed:
            return 0.0
        return -float(2 ** (self.bits - 1) - self.narrow) * self.step

    def value_of(self, code: int) -> float:
        """The value of an unsigned bit pattern `code` in [0, 2**bits)."""
        integer = code - 2**self.bits if self.signed and code >= 2 ** (self.bits - 1) else code
        return integer * self.step

    @property
    def values(self) -> tuple[float, ...]:
        """The value of every code, in the order of the unsigned bit patterns."""
        return tuple(self.value_of(code) for code in range(2**self.bits))


@dataclass(frozen=True)
class FloatElement:
    """A small binary float: sign, exponent, mantissa (OCP OFP8 and MX specifications, IEEE-754 rules).

    value = (-1)^sign * 2^(max(E, 1) - bias) * (M / 2^mantissa_bits + (E > 0))

    Example:
        >>> FloatElement(4, 3, specials="nan").max, FloatElement(2, 1).values[:8]
        (448.0, (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0))
    """

    exponent_bits: int
    mantissa_bits: int
    specials: Specials = "none"
    signed: bool = True

    @property
    def name(self) -> str:
        suffix = {"none": "", "nan": "fn", "ieee": ""}[self.specials] if self.bits == 8 else ""
        return f"{'' if self.signed else 'u'}e{self.exponent_bits}m{self.mantissa_bits}{suffix}"

    @property
    def bits(self) -> int:
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        return int(2 ** (self.exponent_bits - 1) - 1)

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    @property
    def smallest_subnormal(self) -> float:
        """The distance between neighbours around zero."""
        return 2.0 ** (1 - self.bias - self.mantissa_bits)

    @property
    def max(self) -> float:
        """The largest finite value."""
        largest = 2 ** (self.exponent_bits + self.mantissa_bits) - 1  # all bits set, where that is a number
        not_numbers = {"none": 0, "nan": 1, "ieee": 2**self.mantissa_bits}[self.specials]
        return self.value_of(largest - not_numbers)

    @property
    def min(self) -> float:
        return -self.max if self.signed else 0.0

    @property
    def max_exponent(self) -> int:
        """The exponent of the largest finite value: emax in the OCP MX specification, section 6.3."""
        return math.frexp(self.max)[1] - 1

    def value_of(self, code: int) -> float:
        """The value of an unsigned bit pattern `code` in [0, 2**bits)."""
        mantissa = code & (2**self.mantissa_bits - 1)
        exponent = (code >> self.mantissa_bits) & (2**self.exponent_bits - 1)
        sign = -1.0 if self.signed and code >> (self.bits - 1) else 1.0
        top = exponent == 2**self.exponent_bits - 1
        if self.specials == "ieee" and top:
            return math.nan if mantissa else sign * math.inf
        if self.specials == "nan" and top and mantissa == 2**self.mantissa_bits - 1:
            return math.nan
        fraction = mantissa / 2**self.mantissa_bits + (exponent > 0)
        return sign * math.ldexp(fraction, max(exponent, 1) - self.bias)

    @property
    def values(self) -> tuple[float, ...]:
        """The value of every code, in the order of the unsigned bit patterns."""
        return tuple(self.value_of(code) for code in range(2**self.bits))


@dataclass(frozen=True)
class PowerOfTwoElement:
    """A bare exponent: E8M0 of the OCP MX specification. Code 255 is NaN; there is neither sign nor zero.

    Example:
        >>> PowerOfTwoElement().value_of(127), PowerOfTwoElement().name
        (1.0, 'e8m0')
    """

    bits: int = 8

    @property
    def name(self) -> str:
        return f"e{self.bits}m0"

    @property
    def bias(self) -> int:
        return int(2 ** (self.bits - 1) - 1)

    @property
    def max(self) -> float:
        return math.ldexp(1.0, 2**self.bits - 2 - self.bias)

    @property
    def min(self) -> float:
        return math.ldexp(1.0, -self.bias)

    def value_of(self, code: int) -> float:
        return math.nan if code == 2**self.bits - 1 else math.ldexp(1.0, code - self.bias)

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(self.value_of(code) for code in range(2**self.bits))


@dataclass(frozen=True)
class TableElement:
    """A code book: code i means `table[i]`; the table ascends strictly. NF4 is one.

    Example:
        >>> TableElement("quarters", (-1.0, -0.5, 0.0, 1.0)).bits
        2
    """

    table_name: str
    table: tuple[float, ...]

    def __post_init__(self) -> None:
        size = len(self.table)
        if size < 2 or size & (size - 1):
            raise ValueError(f"code book {self.table_name!r}: {size} entries, expected a power of two")
        if any(low >= high for low, high in zip(self.table, self.table[1:], strict=False)):
            raise ValueError(f"code book {self.table_name!r}: its values must ascend strictly")

    @property
    def name(self) -> str:
        return self.table_name

    @property
    def bits(self) -> int:
        return len(self.table).bit_length() - 1

    @property
    def max(self) -> float:
        return self.table[-1]

    @property
    def min(self) -> float:
        return self.table[0]

    def value_of(self, code: int) -> float:
        return self.table[code]

    @property
    def values(self) -> tuple[float, ...]:
        return self.table


@dataclass(frozen=True)
class Float32Element:
    """IEEE binary32, for scales that are stored as they are."""

    @property
    def name(self) -> str:
        return "fp32"

    @property
    def bits(self) -> int:
        return 32

    @property
    def max(self) -> float:
        return float(2**128 - 2**104)

    @property
    def min(self) -> float:
        return -self.max


CodedElement = IntElement | FloatElement | PowerOfTwoElement | TableElement
"""Elements whose codes can be listed."""

Element = CodedElement | Float32Element

FP32 = Float32Element()
INT8 = IntElement(8, narrow=True)
E4M3 = FloatElement(4, 3, specials="nan")
E5M2 = FloatElement(5, 2, specials="ieee")
E2M1 = FloatElement(2, 1)
E3M2 = FloatElement(3, 2)
E2M3 = FloatElement(2, 3)
E8M0 = PowerOfTwoElement()
