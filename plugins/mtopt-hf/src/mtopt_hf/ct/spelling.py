"""The one table of the dialect: number format → how compressed-tensors spells it for weights and activations.

Facts: compressed-tensors 0.15 to 0.20 (`quantization/quant_args.py`, `compressors/`) and the schemes that vLLM 0.32
knows (`compressed_tensors/compressed_tensors.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from mtcore.formats import TensorFormat
from mtcore.formats.catalog import (
    BLOCK_SIZES,
    FP8,
    FP8_ROW,
    FP8_RUN,
    FP8_TILE,
    INT8_ROW,
    INT8_TENSOR,
    MXFP4,
    MXFP6_E2M3,
    MXFP8_E4M3,
    NVFP4,
    WEIGHT_BITS,
    int_block,
    int_block_asym,
)
from mtcore.recipe import Mode
from mtopt_hf.checkpoint.attention import CacheForm
from mtopt_hf.formats import int_row, int_row_asym
from mtopt_hf.same import same_when_stored

Layout = Literal[
    "float-quantized",
    "int-quantized",
    "pack-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mxfp6-pack-quantized",
    "mxfp8-quantized",
]
"""The dialect's word for how codes and scales of a weight are named and packed."""

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Spelling:
    """How one format is written.

    Attributes:
        format: the format; others that store the same codes and scales share its spelling.
        family: of an activation in this format; weights name the families that they go with.
        weight: the arguments of a weight; None where the dialect has no weights in this format.
        activation: the arguments of an activation, by mode; a mode that is absent cannot be expressed.
        layout: of a weight whose input is quantized, by the family of the input.
        layout_alone: of a weight whose input is not; None where no client reads that.
    """

    format: TensorFormat
    family: str
    weight: Arguments | None
    activation: Mapping[Mode, Arguments] = field(default_factory=dict)
    layout: Mapping[str, Layout] = field(default_factory=dict)
    layout_alone: Layout | None = None


def _arguments(kind: str, strategy: str, *, bits: int = 8, dynamic: bool | str = False, **more: Any) -> Arguments:
    return {"num_bits": bits, "type": kind, "symmetric": True, "strategy": strategy, "dynamic": dynamic, **more}


_FP4: dict[str, Any] = {"bits": 4, "group_size": NVFP4.block.cols, "scale_dtype": "torch.float8_e4m3fn"}
_MX: dict[str, Any] = {"group_size": MXFP4.block.cols, "scale_dtype": "torch.uint8"}


def _spellings() -> Iterator[Spelling]:
    yield Spelling(
        FP8,
        "fp8",
        _arguments("float", "tensor"),
        {"static": _arguments("float", "tensor"), "dynamic": _arguments("float", "tensor", dynamic=True)},
        {"fp8": "float-quantized"},
        "float-quantized",
    )
    yield Spelling(
        FP8_ROW,
        "fp8",
        _arguments("float", "channel"),
        {"dynamic": _arguments("float", "token", dynamic=True)},
        {"fp8": "float-quantized"},
        "float-quantized",
    )
    yield Spelling(
        FP8_TILE,
        "fp8",
        _arguments("float", "block", block_structure=[FP8_TILE.block.rows, FP8_TILE.block.cols]),
        layout={"fp8_run": "float-quantized"},
        layout_alone="float-quantized",
    )
    yield Spelling(
        FP8_RUN,
        "fp8_run",
        None,
        {"dynamic": _arguments("float", "group", dynamic=True, group_size=FP8_RUN.block.cols)},
    )
    yield Spelling(
        INT8_TENSOR,
        "int8",
        _arguments("int", "tensor"),
        {"static": _arguments("int", "tensor"), "dynamic": _arguments("int", "tensor", dynamic=True)},
        {"int8": "int-quantized"},
    )
    yield Spelling(
        INT8_ROW,
        "int8",
        _arguments("int", "channel"),
        {"dynamic": _arguments("int", "token", dynamic=True)},
        {"int8": "int-quantized"},
        "pack-quantized",
    )
    yield Spelling(
        NVFP4,
        "nvfp4",
        _arguments("float", "tensor_group", **_FP4),
        {"dynamic_blocks": _arguments("float", "tensor_group", dynamic="local", **_FP4)},
        {"nvfp4": "nvfp4-pack-quantized"},
        "nvfp4-pack-quantized",
    )
    yield Spelling(
        MXFP4,
        "mxfp4",
        _arguments("float", "group", bits=4, **_MX),
        {"dynamic": _arguments("float", "group", bits=4, dynamic=True, **_MX)},
        {"mxfp4": "mxfp4-pack-quantized", "fp8_run": "mxfp4-pack-quantized"},
        "mxfp4-pack-quantized",
    )
    yield Spelling(
        MXFP6_E2M3,
        "mxfp6",
        _arguments("float", "group", bits=6, **_MX),
        layout={"mxfp8": "mxfp6-pack-quantized"},
        layout_alone="mxfp6-pack-quantized",
    )
    yield Spelling(
        MXFP8_E4M3,
        "mxfp8",
        _arguments("float", "group", **_MX),
        {"dynamic": _arguments("float", "group", dynamic=True, **_MX)},
        {"mxfp8": "mxfp8-quantized"},
        "mxfp8-quantized",
    )
    yield from _weight_integers()


def _weight_integers() -> Iterator[Spelling]:
    """Integers of weights alone, and of 4-bit weights beside 8-bit inputs."""
    for bits in WEIGHT_BITS:
        beside: dict[str, Layout] = {"int8": "pack-quantized", "fp8": "pack-quantized"} if bits == 4 else {}
        for size in BLOCK_SIZES:
            group = _arguments("int", "group", bits=bits, group_size=size)
            yield Spelling(int_block(bits, size), "", group, {}, beside, "pack-quantized")
            asymmetric = {**group, "symmetric": False}
            yield Spelling(int_block_asym(bits, size), "", asymmetric, layout_alone="pack-quantized")
        channel = _arguments("int", "channel", bits=bits)
        if bits < 8:
            yield Spelling(int_row(bits), "", channel, {}, beside, "pack-quantized")
        yield Spelling(int_row_asym(bits), "", {**channel, "symmetric": False}, layout_alone="pack-quantized")


SPELLINGS = tuple(_spellings())

CACHES = (CacheForm(FP8, (FP8,)), CacheForm(NVFP4, (NVFP4,)))
"""How clients read keys and values in this dialect; one scheme stands for them and for the queries beside them."""


@cache
def spelling_of(fmt: TensorFormat) -> Spelling | None:
    """The spelling of a format, or None where the dialect has none.

    Formats count as the same when a reader of the file cannot tell them apart: the same codes under the same
    scales. On which code an amax lands is the writer's business alone.
    """
    return next((spelling for spelling in SPELLINGS if same_when_stored(spelling.format, fmt)), None)


def cache_arguments(fmt: TensorFormat) -> Arguments:
    """The arguments of a cache in one of the formats of `CACHES`: those of an activation as fixed as can be."""
    spelling = spelling_of(fmt)
    assert spelling is not None
    return spelling.activation["static" if "static" in spelling.activation else "dynamic_blocks"]
