"""The attributes of a Model-Optimizer quantizer: which there are, what they may hold, and what each means here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator

from mtcore.formats.element import E4M3

Bits = tuple[int, int]
"""Exponent and mantissa bits of a small float."""

_E_M = re.compile(r"e(\d)m(\d)")


@dataclass(frozen=True)
class BlockSizes:
    """`block_sizes`, read: the block's extent by axis (None: the whole axis) and how its scales are kept."""

    extents: Mapping[int, int | None]
    dynamic: bool = False
    scale_bits: Bits | None = None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def read_bits(value: object) -> int | Bits:
    """8, [4, 3] or "e4m3"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_int, value)):
        return (value[0], value[1])
    if isinstance(value, str) and (match := _E_M.fullmatch(value.lower())):
        return (int(match[1]), int(match[2]))
    raise ValueError(f"{value!r} is neither a number of bits nor exponent and mantissa bits such as [4, 3]")


def read_axis(value: object) -> int | None:
    """The one axis that keeps a scale for each of its indices; None: one scale for all."""
    axes = list(value) if isinstance(value, list | tuple) else [value]
    if value is None or not axes:
        return None
    if len(axes) == 1 and isinstance(axes[0], int) and not isinstance(axes[0], bool):
        return axes[0]
    raise ValueError(f"axis {value!r}: one axis or none is supported")


def read_block_sizes(value: object) -> BlockSizes | None:
    """`{axis: size, "type": …, "scale_bits": …}`."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError(f"block_sizes is a mapping such as {{-1: 16}}, not {value!r}")
    extents: dict[int, int | None] = {}
    faults: list[str] = []
    for key, item in value.items():
        if re.fullmatch(r"-?\d+", str(key)):
            extents[int(key)] = item
            if item is not None and not (_is_int(item) and item > 0):
                faults.append(f"block size {item!r} of axis {key} is not a positive number")
        elif key not in _BLOCK_OPTIONS:
            faults.append(f"unknown key {key!r}; known are axes (numbers) and {', '.join(_BLOCK_OPTIONS)}")
        elif (why := _BLOCK_OPTIONS[str(key)](item)) is not None:
            faults.append(f"{key} {item!r}: {why}")
    if not extents:
        faults.append("it names no axis")
    if faults:
        raise ValueError(f"block_sizes: {'; '.join(faults)}")
    bits = value.get("scale_bits")
    scale_bits = None if bits is None else read_bits(bits)
    assert not isinstance(scale_bits, int)
    return BlockSizes(extents, value.get("type") == "dynamic", scale_bits)


def _scale_bits_fault(value: object) -> str | None:
    try:
        known = value is None or read_bits(value) in ((4, 3), (8, 0))
    except ValueError:
        known = False
    return None if known else "scales are [4, 3] (E4M3), [8, 0] (E8M0) or, without scale_bits, fp32"


_BLOCK_OPTIONS: dict[str, Callable[[object], str | None]] = {
    "type": lambda value: None if value in ("static", "dynamic", None) else "it is static or dynamic",
    "scale_bits": _scale_bits_fault,
    "scale_block_sizes": lambda value: (
        None if value is None else "the second level of scales is one for the whole tensor here"
    ),
    "four_over_six": lambda value: (
        None if value in (False, None) else "it is an algorithm's choice here, not a property of the format"
    ),
}


class Attributes(BaseModel):
    """Every attribute of a quantizer, with Model-Optimizer's defaults; `format` is the reference architecture's."""

    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True
    )

    enable: bool = True
    num_bits: Annotated[int | Bits, PlainValidator(read_bits)] = 8
    axis: Annotated[int | None, PlainValidator(read_axis)] = None
    block_sizes: Annotated[BlockSizes | None, PlainValidator(read_block_sizes)] = None
    type: Literal["static", "dynamic"] = "static"
    unsigned: bool = False
    narrow_range: bool = False
    format: str | None = None

    fake_quant: Any = True
    trt_high_precision_dtype: Any = "Float"
    effective_bits: Any = None

    learn_amax: Any = False
    bias: Any = None
    calibrator: Any = "max"
    rotate: Any = False
    pass_through_bwd: Any = True
    backend: Any = None
    backend_extra_args: Any = None
    use_constant_amax: bool = False
    constant_amax: float | None = Field(default=None, ge=2**-100, le=2**100, allow_inf_nan=False)

    @property
    def fixed_amax(self) -> float | None:
        """The constant that stands for the largest magnitude: the one that is named, or E4M3's largest value."""
        return E4M3.max if self.use_constant_amax else self.constant_amax

    @model_validator(mode="after")
    def _one_constant(self) -> Self:
        if self.use_constant_amax and self.constant_amax is not None:
            raise ValueError("use_constant_amax and constant_amax each name an amax; give one of them")
        return self


NO_EFFECT = {
    "fake_quant": "codes are stored when a model is saved, never while it calibrates",
    "trt_high_precision_dtype": "it concerns TensorRT's export alone",
    "effective_bits": "bits an element follow from the format",
}
"""Attributes that are accepted whatever they hold, and why they do nothing."""

ONLY_DEFAULT = {
    "learn_amax": "learning amax is an algorithm here; name it under algorithm",
    "bias": "an offset belongs to the format here; name one with a zero point",
    "calibrator": "what is observed belongs to the algorithm here; name it under algorithm",
    "rotate": "quantizers do not rotate",
    "pass_through_bwd": "gradients always pass straight through",
    "backend": "kernels are chosen by the plan, never by a quantizer",
    "backend_extra_args": "kernels are chosen by the plan, never by a quantizer",
}
"""Attributes that are accepted at their default only, and why anything else cannot be honoured."""

OFF_VALUES: tuple[object, ...] = (None, False, {}, {"enable": False})
"""Spellings of "not used", which count as the default of an attribute whose default is one of them."""


def is_default(name: str, value: object) -> bool:
    """Whether an attribute says no more than its default does."""
    default = Attributes.model_fields[name].default
    return bool(value == default) or (default in OFF_VALUES and value in OFF_VALUES)
