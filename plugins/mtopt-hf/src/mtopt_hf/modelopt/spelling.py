"""The one table of the dialect: formats of weight and input → how ModelOpt spells the pair.

Facts: nvidia-modelopt 0.47 (`export/quant_utils.py`, `export/convert_hf_config.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from mtcore.formats import E4M3, FP32, PER_TENSOR, Block, IntElement, Scale, TensorFormat
from mtcore.formats.catalog import (
    BLOCK_SIZES,
    FP8,
    FP8_ROW,
    FP8_TILE,
    INT8_ROW,
    INT8_TENSOR,
    MXFP4,
    MXFP8_E4M3,
    NVFP4,
    NVFP4_FP8,
    int_block,
)
from mtcore.recipe import Mode
from mtopt_hf.checkpoint.attention import CacheForm
from mtopt_hf.formats import NVFP4_B32_FP8
from mtopt_hf.same import same_when_stored

Layout = Literal["codes", "int4"]
"""How codes are packed: as they are (4-bit floats two in a byte along a row), or INT4 with two rows in a byte."""

ScaleShape = Literal["tensor", "row", "tile", "blocks"]
"""Of `weight_scale`: [], [o], [o/128, 1, i/128, 1], or [o, i/g]."""

MIXED = "MIXED_PRECISION"


@dataclass(frozen=True)
class Spelling:
    """How one pair of formats is written.

    Attributes:
        algo: the value of `quant_algo`.
        weight, input: the formats; `input` is None where it is not quantized.
        mode: of the input.
        layout: of the codes.
        scale: shape of `weight_scale`.
        group_size: elements along a row that share a scale, where the dialect says so.
        smoothed: whether clients expect a `pre_quant_scale` with every layer; ones where there is nothing to scale.
        scaled_algo: the algorithm of a model with layers that hold a `pre_quant_scale`; None where it has none.
        branched_algo: the same for layers with a low-rank branch.
        grouped: whether config.json describes its bits as a group too, as the peer does for some algorithms.
    """

    algo: str
    weight: TensorFormat
    input: TensorFormat | None = None
    mode: Mode | None = None
    layout: Layout = "codes"
    scale: ScaleShape = "blocks"
    group_size: int | None = None
    smoothed: bool = False
    scaled_algo: str | None = None
    branched_algo: str | None = None
    grouped: bool = False


def _int_on_the_way_to_fp8(size: int) -> TensorFormat:
    scales = (Scale(FP32, Block(1, size)), Scale(FP32, PER_TENSOR))
    return TensorFormat(f"int4_b{size}_fp8", IntElement(4), scales, via=E4M3)


def _spellings() -> Iterator[Spelling]:
    sixteen, thirty_two = NVFP4.block.cols, MXFP4.block.cols
    yield Spelling("FP8", FP8, FP8, "static", scale="tensor", grouped=True)
    yield Spelling("FP8_PER_CHANNEL_PER_TOKEN", FP8_ROW, FP8_ROW, "dynamic", scale="row")
    yield Spelling("fp8_pb_wo", FP8_TILE, scale="tile")
    yield Spelling(
        "NVFP4",
        NVFP4,
        NVFP4,
        "dynamic_blocks",
        group_size=sixteen,
        scaled_algo="NVFP4_AWQ",
        branched_algo="NVFP4_SVD",
        grouped=True,
    )
    yield Spelling("W4A16_NVFP4", NVFP4, group_size=sixteen, grouped=True)
    yield Spelling("W4A8_NVFP4_FP8", NVFP4_FP8, FP8, "static", group_size=sixteen)
    yield Spelling("W4A8_NVFP4_FP8", NVFP4_B32_FP8, FP8, "static", group_size=thirty_two)
    yield Spelling("MXFP8", MXFP8_E4M3, MXFP8_E4M3, "dynamic", group_size=thirty_two)
    yield Spelling("mxfp4", MXFP4, MXFP4, "dynamic")
    yield Spelling("mxfp4", MXFP4)
    yield Spelling("W4A8_MXFP4_FP8", MXFP4, FP8, "static", group_size=thirty_two)
    for size in BLOCK_SIZES:
        yield Spelling(
            "W4A16_AWQ",
            int_block(4, size),
            layout="int4",
            group_size=size,
            smoothed=True,
            scaled_algo="W4A16_AWQ",
        )
        yield Spelling(
            "W4A8_AWQ",
            _int_on_the_way_to_fp8(size),
            FP8,
            "static",
            layout="int4",
            group_size=size,
            smoothed=True,
            scaled_algo="W4A8_AWQ",
        )
    sq = "W8A8_SQ_PER_CHANNEL"
    yield Spelling(sq, INT8_ROW, INT8_TENSOR, "static", scale="row", scaled_algo=sq)
    yield Spelling("W8A16", INT8_ROW, scale="row")


SPELLINGS = tuple(_spellings())

CACHE = {"FP8": FP8, "NVFP4": NVFP4}
"""The values of `kv_cache_quant_algo`, with the format of keys and values."""

CACHES = tuple(CacheForm(fmt, (FP8,)) for fmt in CACHE.values())
"""Queries in FP8 have a scale that vLLM reads; Model-Optimizer writes none."""


@cache
def spellings_of(weight: TensorFormat, given: TensorFormat | None) -> tuple[Spelling, ...]:
    """The spellings of a pair of formats, in whatever mode the input is."""
    return tuple(
        spelling
        for spelling in SPELLINGS
        if same_when_stored(spelling.weight, weight)
        and (spelling.input is None) == (given is None)
        and (given is None or spelling.input is None or same_when_stored(spelling.input, given))
        and _same_outer(spelling.weight, weight)
    )


def _same_outer(one: TensorFormat, other: TensorFormat) -> bool:
    """NVFP4 for FP8 kernels differs from plain NVFP4 only in the value on which the tensor's amax lands; an outer
    target of up to E4M3's largest value keeps code · scale within E4M3, which is what those kernels need."""
    return (
        one.outer is None
        or one.via is not None
        or (one.outer_target <= E4M3.max) == (other.outer_target <= E4M3.max)
    )
