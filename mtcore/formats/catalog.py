"""The formats that mtcore brings: one value each, yielded to the registry like anybody's plugin."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.formats.codebooks import NF4, codebook_formats
from mtcore.formats.floats import (
    FP8,
    FP8_E5M2,
    FP8_E5M2_ROW,
    FP8_ROW,
    FP8_RUN,
    FP8_TILE,
    NVFP4,
    NVFP4_FP8,
    float_formats,
)
from mtcore.formats.integers import (
    BLOCK_SIZES,
    INT4_B128,
    INT4_B128_FP8,
    INT8_ROW,
    INT8_ROW_FULL,
    INT8_TENSOR,
    WEIGHT_BITS,
    int_block,
    int_block_asym,
    integer_formats,
)
from mtcore.formats.microscaling import (
    MXFP4,
    MXFP6_E2M3,
    MXFP6_E3M2,
    MXFP8_E4M3,
    MXFP8_E5M2,
    MXINT8,
    microscaling_formats,
)
from mtcore.formats.tensor import TensorFormat

__all__ = [
    "BLOCK_SIZES",
    "FP8",
    "FP8_E5M2",
    "FP8_E5M2_ROW",
    "FP8_ROW",
    "FP8_RUN",
    "FP8_TILE",
    "INT4_B128",
    "INT4_B128_FP8",
    "INT8_ROW",
    "INT8_ROW_FULL",
    "INT8_TENSOR",
    "MXFP4",
    "MXFP6_E2M3",
    "MXFP6_E3M2",
    "MXFP8_E4M3",
    "MXFP8_E5M2",
    "MXINT8",
    "NF4",
    "NVFP4",
    "NVFP4_FP8",
    "WEIGHT_BITS",
    "builtin_formats",
    "int_block",
    "int_block_asym",
]


def builtin_formats() -> Iterator[TensorFormat]:
    """The catalog, in the order in which it is shown."""
    yield from float_formats()
    yield from microscaling_formats()
    yield from integer_formats()
    yield from codebook_formats()
