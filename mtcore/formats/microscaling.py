"""MX formats of the OCP Microscaling specification: 32 elements share one power of two (E8M0)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mtcore.formats.element import E2M1, E2M3, E3M2, E4M3, E5M2, E8M0, CodedElement, IntElement
from mtcore.formats.tensor import Block, Scale, TensorFormat

MX_BLOCK = Block(1, 32)
INT8_Q6 = IntElement(8, narrow=True, fraction_bits=6)
"""The element of MXINT8: the specification gives its integers an implied scale of 2^-6."""


def mx(name: str, element: CodedElement, what: str, aliases: tuple[str, ...] = ()) -> TensorFormat:
    """An MX format whose shared exponents are rounded up, so that no block maximum saturates."""
    return TensorFormat(
        name,
        element,
        (Scale(E8M0, MX_BLOCK, rounding="up"),),
        aliases=aliases,
        summary=f"{what}, an E8M0 scale for 32 elements, rounded up",
    )


MXFP8_E4M3 = mx("mxfp8_e4m3", E4M3, "8-bit floats E4M3", ("mxfp8",))
MXFP8_E5M2 = mx("mxfp8_e5m2", E5M2, "8-bit floats E5M2")
MXFP6_E2M3 = mx("mxfp6_e2m3", E2M3, "6-bit floats E2M3")
MXFP6_E3M2 = mx("mxfp6_e3m2", E3M2, "6-bit floats E3M2", ("mxfp6",))
MXFP4 = mx("mxfp4", E2M1, "4-bit floats E2M1")
MXINT8 = mx("mxint8", INT8_Q6, "8-bit integers in steps of 1/64")


def rounded_by_floor(fmt: TensorFormat) -> TensorFormat:
    """The same format under the rule that the OCP specification suggests (section 6.3)."""
    scale = replace(fmt.inner, rounding="floor")
    return replace(
        fmt,
        name=f"{fmt.name}_floor",
        scales=(scale,),
        aliases=(),
        summary=f"{fmt.name} with the scale rule of the OCP specification, under which block maxima may saturate",
    )


def rounded_half_up(fmt: TensorFormat, round_up_from: float) -> TensorFormat:
    """The same format under the rule of compressed-tensors; the threshold is its constant for this element."""
    scale = replace(fmt.inner, rounding="half_up", round_up_from=round_up_from)
    return replace(
        fmt,
        name=f"{fmt.name}_half_up",
        scales=(scale,),
        aliases=(),
        summary=f"{fmt.name} with the scale rule of compressed-tensors",
    )


def microscaling_formats() -> Iterator[TensorFormat]:
    """Every MX format of the catalog."""
    base = (MXFP8_E4M3, MXFP8_E5M2, MXFP6_E2M3, MXFP6_E3M2, MXFP4, MXINT8)
    yield from base
    yield from map(rounded_by_floor, base)
    yield rounded_half_up(MXFP8_E4M3, 1.75)
    yield rounded_half_up(MXFP6_E2M3, 1.9375)
    yield rounded_half_up(MXFP4, 1.75)
