"""Float formats: FP8 with fp32 scales, and NVFP4 with two levels of scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mtcore.formats.element import E2M1, E4M3, E5M2, FP32, FloatElement
from mtcore.formats.tensor import PER_ROW, PER_TENSOR, Block, Scale, TensorFormat


def fp8(name: str, element: FloatElement, block: Block, shared: str, aliases: tuple[str, ...] = ()) -> TensorFormat:
    """8-bit floats under one level of fp32 scales, amax / element maximum."""
    summary = f"8-bit floats {element.name[:4].upper()}, one scale {shared}"
    return TensorFormat(
        name,
        element,
        (Scale(FP32, block),),
        aliases=aliases,
        summary=summary,
    )


_ROW = "an output channel (weights) or token (activations)"
_TILE = "a tile of 128x128 elements"
_RUN = "for 128 elements along a row"

FP8 = fp8("fp8", E4M3, PER_TENSOR, "a tensor", ("fp8_e4m3",))
FP8_ROW = fp8("fp8_row", E4M3, PER_ROW, _ROW, ("fp8_channel", "fp8_token"))
FP8_TILE = fp8("fp8_128x128", E4M3, Block(128, 128), _TILE, ("fp8_block",))
FP8_RUN = fp8("fp8_1x128", E4M3, Block(1, 128), _RUN)
FP8_E5M2 = fp8("fp8_e5m2", E5M2, PER_TENSOR, "a tensor")
FP8_E5M2_ROW = fp8("fp8_e5m2_row", E5M2, PER_ROW, _ROW, ("fp8_e5m2_channel", "fp8_e5m2_token"))
FP8_E5M2_TILE = fp8("fp8_e5m2_128x128", E5M2, Block(128, 128), _TILE, ("fp8_e5m2_block",))
FP8_E5M2_RUN = fp8("fp8_e5m2_1x128", E5M2, Block(1, 128), _RUN)

NVFP4 = TensorFormat(
    "nvfp4",
    E2M1,
    (
        Scale(E4M3, Block(1, 16), smallest=E4M3.smallest_subnormal),
        Scale(FP32, PER_TENSOR),
    ),
    summary="4-bit floats E2M1, an E4M3 scale for 16 elements, an fp32 scale for the tensor",
)
NVFP4_FP8 = replace(
    NVFP4,
    name="nvfp4_fp8",
    aliases=("w4a8_nvfp4",),
    outer_amax_to=E4M3.max,
    summary="nvfp4 whose code · scale stays within E4M3, for kernels that multiply with FP8 activations (W4A8)",
)


def float_formats() -> Iterator[TensorFormat]:
    """Every float format of the catalog under fp32 scales."""
    yield from (FP8, FP8_ROW, FP8_TILE, FP8_RUN)
    yield from (FP8_E5M2, FP8_E5M2_ROW, FP8_E5M2_TILE, FP8_E5M2_RUN)
    yield from (NVFP4, NVFP4_FP8)
