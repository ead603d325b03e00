"""The number format of this plugin: 5-bit floats, two exponent and two mantissa bits, with one scale a row."""

from mtcore.formats import PER_ROW, Float32Element, FloatElement, Scale, TensorFormat

FP5_ROW = TensorFormat(
    "fp5_row",
    FloatElement(exponent_bits=2, mantissa_bits=2),
    (Scale(Float32Element(), PER_ROW),),
    aliases=("fp5",),
    summary="5-bit floats (E2M2), one fp32 scale a row",
)
