"""Number formats that only checkpoints of this plugin know: integers with a scale a row, FP4 on the way to FP8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mtcore.formats import FP32, PER_ROW, PER_TENSOR, Block, IntElement, Scale, TensorFormat
from mtcore.formats.catalog import NVFP4_FP8, WEIGHT_BITS


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


NVFP4_B32_FP8 = replace(
    NVFP4_FP8,
    name="nvfp4_b32_fp8",
    aliases=(),
    scales=(replace(NVFP4_FP8.inner, block=Block(1, 32)), Scale(FP32, PER_TENSOR)),
    summary="nvfp4_fp8 with a scale for 32 elements, as ModelOpt writes it for TensorRT-LLM",
)


def hub_formats() -> Iterator[TensorFormat]:
    """Every format of this file; `int8_row` itself is mtcore's."""
    yield NVFP4_B32_FP8
    for bits in WEIGHT_BITS:
        if bits < 8:
            yield int_row(bits)
        yield int_row_asym(bits)
