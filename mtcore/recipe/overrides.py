"""Overrides: `rules.0.weight=fp8` changes one value of a document before its grammar is looked at."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mtcore.recipe.document import Document, KeyPath, Plain, Problems
from mtcore.recipe.read import read_yaml

APPEND = "+"
"""The segment that stands for a new last entry of a list."""


def apply_overrides(document: Document, overrides: Sequence[str], problems: Problems) -> Document:
    """The document with every override applied, in order; those that cannot be are noted as problems.

    An override is `path=value`. The path names keys and list indices (from 0; `+` appends) from the top, separated
    by dots; a key that holds dots itself is found too. The value is YAML. A short form that is descended into is
    spelled out first: `weight: nvfp4` becomes `weight: {format: nvfp4}`.
    """
    data = copy.deepcopy(document.data)
    overridden = dict(document.overridden)
    for text in overrides:
        place = f"{document.title}, override {text!r}"
        path_text, equals, value_text = text.partition("=")
        if not equals or not path_text.strip():
            problems.add(place, "an override reads path=value, for instance rules.0.weight=fp8")
            continue
        value = read_yaml(value_text, title=place, problems=problems)
        if value is None:
            continue
        try:
            where = _assign(data, path_text.strip(), value.data if value_text.strip() else None)
        except _PathError as error:
            problems.add(place, error.message)
        else:
            overridden[where] = text
    return replace(document, data=data, overridden=overridden)


@dataclass
class _PathError(Exception):
    message: str


def _assign(data: Plain, rest: str, value: Plain) -> KeyPath:
    """Set the value at a dotted path, in place, and give the path by keys."""
    path: list[str | int] = []
    container = data
    while True:
        container = _spelled_out(container, path)
        key, rest = _next_key(container, rest, path)
        path.append(key)
        if not rest:
            break
        container = _descend(container, key)
    if isinstance(container, list):
        container.append(value) if key == len(container) else container.__setitem__(int(key), value)
    else:
        assert isinstance(container, dict)
        container[key] = value
    return tuple(path)


def _spelled_out(container: Plain, path: list[str | int]) -> Plain:
    if isinstance(container, dict | list):
        return container
    where = ".".join(map(str, path)) or "the document"
    raise _PathError(f"{where} is {container!r}; nothing lies below it")


def _next_key(container: Plain, rest: str, path: list[str | int]) -> tuple[str | int, str]:
    """The key of `container` that the path goes on with, and what is left of the path."""
    first, _, after = rest.partition(".")
    if isinstance(container, list):
        if first == APPEND:
            return len(container), after
        where = ".".join(map(str, path))
        if not first.isdecimal():
            raise _PathError(f"{where} is a list; {first!r} is neither an index nor {APPEND!r}")
        if int(first) >= len(container):
            raise _PathError(f"{where} has {len(container)} entries, counted from 0; there is no {first}")
        return int(first), after
    assert isinstance(container, dict)
    known = {str(key): key for key in container if rest == str(key) or rest.startswith(f"{key}.")}
    if not known:
        return first, after
    longest = max(known, key=len)
    return known[longest], rest[len(longest) + 1 :]


def _descend(container: Plain, key: str | int) -> Plain:
    """The container below `key`, made or spelled out from a short form where need be."""
    if isinstance(container, list):
        if key == len(container):
            container.append({})
        item = container[int(key)]
        if isinstance(item, str):
            item = container[int(key)] = {"method": item}
        return item
    assert isinstance(container, dict)
    item = container.get(key)
    if item is None:
        item = container[key] = {}
    elif isinstance(item, str) and key not in ("modules", "quantizers", "type", "include"):
        item = container[key] = {"method" if key == "algorithm" else "format": item}
    return item
