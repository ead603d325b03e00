"""Options: what an algorithm can be told, read off its class of options, for help and for messages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mtcore.errors import UnknownNameError


@dataclass(frozen=True)
class OptionHelp:
    """One option of an algorithm.

    Attributes:
        allowed: which values there are: "given, importance or blocks"; "a number, at least 0, at most 1".
        default: as YAML writes it.
        meaning: from the field's description, or from the docstring of the class ("name: meaning").
    """

    name: str
    allowed: str
    default: str
    meaning: str


def options_help(options: type[BaseModel]) -> tuple[OptionHelp, ...]:
    """The options in their order.

    Example:
        >>> from mtcore.calibration.algorithms.smoothquant import SmoothQuantOptions
        >>> option = options_help(SmoothQuantOptions)[0]
        >>> option.name, option.allowed, option.default
        ('alpha', 'a number, at least 0, at most 1', '0.5')
    """
    meanings = _meanings(options)
    return tuple(
        OptionHelp(
            name, _allowed(field), _yaml(field.get("default")), field.get("description") or meanings.get(name, "")
        )
        for name, field in options.model_json_schema().get("properties", {}).items()
    )


def option_problems(options: type[BaseModel], error: ValidationError) -> list[str]:
    """What is wrong with the options of a recipe, each with what is allowed.

    Args:
        error: of `options`.
    """
    known = {option.name: option for option in options_help(options)}
    return [_problem(item, known) for item in error.errors()]


def _problem(item: ErrorDetails, known: Mapping[str, OptionHelp]) -> str:
    place = ".".join(map(str, item["loc"]))
    option = known.get(str(item["loc"][0])) if item["loc"] else None
    if item["type"] == "extra_forbidden":
        return str(UnknownNameError("option", place, known)) if known else f"no option {place!r}; it has none"
    if not place:  # options that do not go together
        return item["msg"].removeprefix("Value error, ")
    allowed = f"{option.allowed} is allowed" if option is not None and option.allowed else item["msg"]
    return f"option {place!r} is {item['input']!r}: {allowed}"


def _allowed(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        *others, last = field["enum"]
        return f"{', '.join(map(str, others))} or {last}" if others else str(last)
    if "const" in field:
        return str(field["const"])
    kind = {"number": "a number", "integer": "a whole number", "boolean": "true or false", "string": "a text"}
    limits = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    said = [f"{word} {field[key]:g}" for key, word in limits.items() if key in field]
    return ", ".join([kind.get(field.get("type", ""), ""), *said]).strip(", ")


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


_ENTRY = re.compile(r"^(\w+(?:, \w+)*): (.*)$")


def _meanings(options: type[BaseModel]) -> dict[str, str]:
    """By name, from the lines `name: meaning` (or `one, other: meaning`) of the docstring."""
    names: list[str] = []
    found: dict[str, str] = {}
    for line in (inspect.getdoc(options) or "").splitlines():
        entry = _ENTRY.match(line)
        if entry is not None:
            names = entry[1].split(", ")
            found.update(dict.fromkeys(names, entry[2]))
        elif line.startswith(" ") and names:
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
        else:
            names = []
    return {name: text for name, text in found.items() if name in options.model_fields}
