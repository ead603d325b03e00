"""Walking through nested arguments and results: tuples, lists, mappings, dataclasses, slices."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Step = tuple[Callable[..., Any], Any]
"""`(operator.getitem, key)` or `(getattr, name)`."""

_DEPTH = 6


def parts(value: object) -> list[tuple[Step, object]]:
    """The parts of a container, each with the step that reaches it; nothing for any other object."""
    if isinstance(value, Mapping):
        return [((operator.getitem, key), item) for key, item in value.items()]
    if isinstance(value, (tuple, list)):
        return [((operator.getitem, i), item) for i, item in enumerate(value)]
    if isinstance(value, slice):
        return [((getattr, name), getattr(value, name)) for name in ("start", "stop", "step")]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [((getattr, f.name), getattr(value, f.name)) for f in dataclasses.fields(value) if f.init]
    return []


def tensors_by_path(value: object, depth: int = 0) -> list[tuple[tuple[Step, ...], Tensor]]:
    """Every tensor in a nested value with the steps that lead to it."""
    if isinstance(value, Tensor):
        return [((), value)]
    if depth > _DEPTH or isinstance(value, (int, float, str)):
        return []
    return [((step, *path), t) for step, item in parts(value) for path, t in tensors_by_path(item, depth + 1)]


def tensors_in(value: object) -> list[Tensor]:
    return [tensor for _, tensor in tensors_by_path(value)]


def has_tensor(value: object) -> bool:
    return isinstance(value, Tensor) or bool(tensors_by_path(value))


def map_tensors(value: object, fn: Callable[[Tensor], object]) -> Any:
    """Copies nested tuples, lists and dicts with `fn` applied to every tensor; the rest stays as it is."""
    if isinstance(value, Tensor):
        return fn(value)
    if type(value) in (tuple, list):
        return type(value)(map_tensors(item, fn) for item in value)  # type: ignore[attr-defined, call-arg]
    if type(value) is dict:
        return {key: map_tensors(item, fn) for key, item in value.items()}
    return value
