"""Number formats that only checkpoints of this plugin know: integers under one scale a row."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.formats import IntElement, TensorFormat
from mtcore.formats.element import FP32
from mtcore.formats.integers import WEIGHT_BITS
from mtcore.formats.tensor import PER_ROW, Scale


def int_row(bits: int) -> TensorFormat:
    """Symmetric integers of `bits` bits, a scale an output channel: amax / (2^(bits-1) - 1)."""
    return TensorFormat(
        f"int{bits}_row",
        IntElement(bits),
        (Scale(FP32, PER_ROW),),
        aliases=(f"int{bits}_channel",),
        summary=f"{bits}-bit integers, one scale an output channel",
    )


def int_row_asym(bits: int) -> TensorFormat:
    """Unsigned integers of `bits` bits, a scale and a zero point an output channel."""
    return TensorFormat(
        f"int{bits}_row_asym",
        IntElement(bits, signed=False),
        (Scale(FP32, PER_ROW),),
        zero_point=IntElement(bits, signed=False),
        aliases=(f"int{bits}_channel_asym",),
        summary=f"{bits}-bit integers with a zero point, one scale an output channel",
    )


def row_formats() -> Iterator[TensorFormat]:
    """Every format of this file; `int8_row` itself is mtcore's."""
    for bits in WEIGHT_BITS:
        if bits < 8:
            yield int_row(bits)
        yield int_row_asym(bits)
