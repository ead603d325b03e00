"""The one table of the dialect: number format → how compressed-tensors spells it for weights and activations.

Facts: compressed-tensors 0.15 to 0.20 (`quantization/quant_args.py`, `compressors/`) and the schemes that vLLM 0.32
knows (`compressed_tensors/compressed_tensors.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mtcore.formats import FloatElement, IntElement, TensorFormat
from mtcore.formats.catalog import FP8, FP8_ROW, INT8_ROW, INT8_TENSOR, NVFP4
from mtcore.recipe.setting import Mode

Layout = Literal["float-quantized", "int-quantized", "pack-quantized", "nvfp4-pack-quantized"]
"""The dialect's word for how codes and scales of a weight are named and packed."""

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Spelling:
    """How one format is written.

    Attributes:
        format: the format; others that store the same codes and scales share its spelling.
        family: weights and activations of one module must be of one family.
        weight: the arguments of a weight.
        activation: the arguments of an activation, by mode; a mode that is absent cannot be expressed.
        layout: of a weight whose input is quantized.
        layout_alone: of a weight whose input is not; None where no client reads that.
    """

    format: TensorFormat
    family: str
    weight: Arguments
    layout: Layout
    layout_alone: Layout | None
    activation: Mapping[Mode, Arguments] = field(default_factory=dict)


def _arguments(kind: str, strategy: str, *, dynamic: bool | str = False, **more: Any) -> Arguments:
    return {"num_bits": 8, "type": kind, "symmetric": True, "strategy": strategy, "dynamic": dynamic, **more}


_FP4: dict[str, Any] = {"num_bits": 4, "group_size": NVFP4.block.cols, "scale_dtype": "torch.float8_e4m3fn"}

SPELLINGS = (
    Spelling(
        FP8,
        "fp8",
        _arguments("float", "tensor"),
        "float-quantized",
        "float-quantized",
        {"static": _arguments("float", "tensor"), "dynamic": _arguments("float", "tensor", dynamic=True)},
    ),
    Spelling(
        FP8_ROW,
        "fp8",
        _arguments("float", "channel"),
        "float-quantized",
        "float-quantized",
        {"dynamic": _arguments("float", "token", dynamic=True)},
    ),
    Spelling(
        INT8_TENSOR,
        "int8",
        _arguments("int", "tensor"),
        "int-quantized",
        None,
        {"static": _arguments("int", "tensor"), "dynamic": _arguments("int", "tensor", dynamic=True)},
    ),
    Spelling(
        INT8_ROW,
        "int8",
        _arguments("int", "channel"),
        "int-quantized",
        "pack-quantized",
        {"dynamic": _arguments("int", "token", dynamic=True)},
    ),
    Spelling(
        NVFP4,
        "nvfp4",
        _arguments("float", "tensor_group", **_FP4),
        "nvfp4-pack-quantized",
        "nvfp4-pack-quantized",
        {"dynamic_blocks": _arguments("float", "tensor_group", dynamic="local", **_FP4)},
    ),
)


def spelling_of(fmt: TensorFormat) -> Spelling | None:
    """The spelling of a format, or None where the dialect has none.

    Formats count as the same when a reader of the file cannot tell them apart: the same codes under the same
    scales. On which code an amax lands is the writer's business alone.
    """
    return next((spelling for spelling in SPELLINGS if _stored(spelling.format) == _stored(fmt)), None)


def _stored(fmt: TensorFormat) -> tuple[object, ...]:
    match fmt.element:
        case IntElement(bits=bits, signed=signed):
            element: object = ("int", bits, signed)
        case FloatElement() as number:
            element = number
        case other:
            element = other
    scales = tuple((scale.element, scale.block) for scale in fmt.scales)
    return element, scales, fmt.zero_point
