"""A number format: floats of 5 bits, with one fp32 scale a row."""

from __future__ import annotations

from mtcore.formats import PER_ROW, Float32Element, FloatElement, Scale, TensorFormat

E2M2 = TensorFormat(
    "template-e2m2",
    FloatElement(exponent_bits=2, mantissa_bits=2),
    (Scale(Float32Element(), PER_ROW),),
    summary="5-bit floats, one scale a row",
)
