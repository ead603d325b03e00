"""Formats as plain values and back, so that a file can carry a format that no catalog knows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mtcore.errors import FormatError
from mtcore.formats.element import (
    Element,
    Float32Element,
    FloatElement,
    IntElement,
    PowerOfTwoElement,
    TableElement,
)
from mtcore.formats.tensor import Block, Scale, TensorFormat

_KINDS: dict[str, type[Element]] = {
    "int": IntElement,
    "float": FloatElement,
    "power_of_two": PowerOfTwoElement,
    "table": TableElement,
    "fp32": Float32Element,
}


def format_to_dict(fmt: TensorFormat) -> dict[str, Any]:
    """Every field of a format as JSON-able values.

    Example:
        >>> from mtcore.formats.catalog import NVFP4
        >>> format_from_dict(format_to_dict(NVFP4)) == NVFP4
        True
    """
    optional = {"zero_point": fmt.zero_point, "via": fmt.via}
    return {
        **asdict(fmt),
        "element": _element_to_dict(fmt.element),
        "scales": [
            {
                **asdict(scale),
                "element": _element_to_dict(scale.element),
                "block": [scale.block.rows, scale.block.cols],
            }
            for scale in fmt.scales
        ],
        **{name: element and _element_to_dict(element) for name, element in optional.items()},
        "aliases": list(fmt.aliases),
    }


def format_from_dict(data: dict[str, Any]) -> TensorFormat:
    """What `format_to_dict` wrote.

    Raises:
        FormatError: a field is missing, unknown or of another type.
    """
    try:
        scales = tuple(
            Scale(**{**scale, "element": _element_from_dict(scale["element"]), "block": Block(*scale["block"])})
            for scale in data["scales"]
        )
        optional = {
            name: None if data[name] is None else _element_from_dict(data[name]) for name in ("zero_point", "via")
        }
        fields = {**data, "element": _element_from_dict(data["element"]), "scales": scales, **optional}
        return TensorFormat(**{**fields, "aliases": tuple(data["aliases"])})
    except FormatError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"not a format ({type(error).__name__}: {error})") from error


def _element_to_dict(element: Element) -> dict[str, Any]:
    kind = next(name for name, cls in _KINDS.items() if cls is type(element))
    fields = asdict(element)
    if isinstance(element, TableElement):
        fields["table"] = list(element.table)
    return {"kind": kind, **fields}


def _element_from_dict(data: dict[str, Any]) -> Any:
    fields = dict(data)
    cls = _KINDS[fields.pop("kind")]
    if "table" in fields:
        fields["table"] = tuple(float(value) for value in fields["table"])
    return cls(**fields)
