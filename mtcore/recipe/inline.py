"""Formats that a recipe defines itself, under `formats:`, for what no catalog has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mtcore.errors import FormatError
from mtcore.formats import TensorFormat
from mtcore.formats.serial import format_from_dict, format_to_dict
from mtcore.recipe.document import Document, KeyPath, Problems
from mtcore.recipe.grammar import check


class _Model(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Int(_Model):
    kind: Literal["int"]
    bits: int = Field(ge=1, le=8)
    signed: bool = True
    narrow: bool = False
    fraction_bits: int = Field(default=0, ge=0, le=8)


class _Float(_Model):
    kind: Literal["float"]
    exponent_bits: int = Field(ge=1, le=6)
    mantissa_bits: int = Field(ge=0, le=6)
    specials: Literal["none", "nan", "ieee"] = "none"
    signed: bool = True


class _PowerOfTwo(_Model):
    kind: Literal["power_of_two"]
    bits: Literal[8] = 8


class _Table(_Model):
    kind: Literal["table"]
    table_name: str
    table: list[float] = Field(min_length=2, max_length=256)


class _Float32(_Model):
    kind: Literal["fp32"]


_Element = Annotated[_Int | _Float | _PowerOfTwo | _Table | _Float32, Field(discriminator="kind")]
_Extent = Annotated[int, Field(ge=-1, le=2**31)]


class _Scale(_Model):
    element: _Element
    block: Annotated[list[_Extent], Field(min_length=2, max_length=2)]
    rounding: Literal["nearest", "up", "floor", "half_up"] = "nearest"
    zero_block: float = 1.0
    smallest: float | None = None
    round_up_from: float = 1.75


class _Format(_Model):
    """A format's fields, with the defaults of `TensorFormat`."""

    element: Annotated[_Int | _Float | _Table, Field(discriminator="kind")]
    scales: list[_Scale] = Field(min_length=1, max_length=2)
    amax_to: float | None = None
    zero_point: _Int | None = None
    summary: str = ""
    outer_amax_to: float | None = None
    via: _Float | None = None


def read_formats(
    data: Mapping[str, Any], known: Mapping[str, TensorFormat], doc: Document, problems: Problems
) -> dict[str, TensorFormat]:
    """The formats under `formats:` by name. Those that contradict themselves or a known one are noted."""
    formats: dict[str, TensorFormat] = {}
    for name, fields in data.items():
        path: KeyPath = ("formats", name)
        known_problems = len(problems)
        model = check(_Format, fields, path, doc, problems)
        if model is None or len(problems) > known_problems:
            continue
        try:
            fmt = format_from_dict({"name": name, "aliases": [], **model.model_dump()})
        except FormatError as error:
            problems.add(doc.place(path), str(error))
            continue
        if name in known and known[name] != fmt:
            problems.add(doc.place(path), f"a format named {name!r} exists already; choose another name")
            continue
        formats[name] = fmt
    return formats


def format_fields(fmt: TensorFormat) -> dict[str, Any]:
    """What `formats:` holds for a format: its fields that are not at their default."""
    fields = {**format_to_dict(fmt)}
    del fields["name"], fields["aliases"]
    model = _Format.model_validate(fields)
    return model.model_dump(exclude_defaults=True)
