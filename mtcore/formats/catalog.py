"""The formats that mtcore brings: one value each, yielded to the registry like anybody's plugin."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.formats.element import E2M1, E4M3, FP32, INT8
from mtcore.formats.tensor import PER_ROW, PER_TENSOR, Block, Scale, TensorFormat

INT8_TENSOR = TensorFormat("int8", INT8, (Scale(FP32, PER_TENSOR),), summary="8-bit integers, one scale a tensor")
INT8_ROW = TensorFormat(
    "int8_row",
    INT8,
    (Scale(FP32, PER_ROW),),
    aliases=("int8_channel", "int8_token"),
    summary="8-bit integers, one scale an output channel (weights) or token (activations)",
)
FP8 = TensorFormat(
    "fp8",
    E4M3,
    (Scale(FP32, PER_TENSOR),),
    aliases=("fp8_e4m3",),
    summary="8-bit floats E4M3, one scale a tensor",
)
FP8_ROW = TensorFormat(
    "fp8_row",
    E4M3,
    (Scale(FP32, PER_ROW),),
    aliases=("fp8_channel", "fp8_token"),
    summary="8-bit floats E4M3, one scale an output channel (weights) or token (activations)",
)
NVFP4 = TensorFormat(
    "nvfp4",
    E2M1,
    (
        Scale(E4M3, Block(1, 16), smallest=E4M3.smallest_subnormal),
        Scale(FP32, PER_TENSOR),
    ),
    summary="4-bit floats E2M1, an E4M3 scale for 16 elements, an fp32 scale for the tensor",
)


def builtin_formats() -> Iterator[TensorFormat]:
    """The catalog, in the order in which it is shown."""
    yield from (INT8_TENSOR, INT8_ROW, FP8, FP8_ROW, NVFP4)
