"""Products: which torch calls multiply matrices, what they contract, and which parameter an operand comes from."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_LEFT_RIGHT = ((0, -1), (1, -2))
_OPERANDS: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "linear": ((0, -1), (1, -1)),
    "matmul": _LEFT_RIGHT,
    "__matmul__": _LEFT_RIGHT,
    "__rmatmul__": ((1, -1), (0, -2)),
    "mm": _LEFT_RIGHT,
    "bmm": _LEFT_RIGHT,
    "baddbmm": ((1, -1), (2, -2)),
    "addmm": ((1, -1), (2, -2)),
    "grouped_mm": _LEFT_RIGHT,
    "_grouped_mm": _LEFT_RIGHT,
    "grouped_mm_fallback": _LEFT_RIGHT,
}
"""Function → (position among the arguments, contracted axis) of the left and the right operand."""

_KEYWORDS = ("input", "weight", "self", "other", "mat1", "mat2", "batch1", "batch2", "mat_a", "mat_b")


@dataclass(frozen=True)
class Operand:
    """One factor of a product: where it stands among the arguments, and the axis that is summed over."""

    place: int | str
    tensor: Tensor
    contracted: int


def operands(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Operand, Operand] | None:
    """The two factors, if this torch call is a product of matrices."""
    places = _OPERANDS.get(getattr(func, "__name__", ""))
    if places is None:
        return None
    given: list[tuple[int | str, Any]] = list(enumerate(args))
    given += [(name, kwargs[name]) for name in _KEYWORDS if name in kwargs]
    (left, left_axis), (right, right_axis) = places
    if len(given) <= max(left, right):
        return None
    (left_place, x), (right_place, y) = given[left], given[right]
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        return None
    return Operand(left_place, x, left_axis), Operand(right_place, y, -1 if y.dim() == 1 else right_axis)


def with_operand(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int | str, tensor: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with another tensor at one place."""
    if isinstance(place, str):
        return args, {**kwargs, place: tensor}
    return (*args[:place], tensor, *args[place + 1 :]), dict(kwargs)


@dataclass(frozen=True)
class Origin:
    """A tensor that is cut out of a parameter: which of its axes each axis of the tensor is (None: none)."""

    parameter: str
    axes: tuple[int | None, ...]


class Origins:
    """Follows parameters through indexing, transposes, casts and copies, call by call."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], Origin]] = {}
        for name, tensor in parameters.items():
            self.learn(tensor, Origin(name, tuple(range(tensor.dim()))))

    def learn(self, tensor: Tensor, origin: Origin) -> None:
        self._known[id(tensor)] = (weakref.ref(tensor), origin)

    def of(self, tensor: object) -> Origin | None:
        """Where a tensor comes from, if it comes from a followed parameter by moves alone."""
        found = self._known.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None

    def note(self, func: Callable[..., Any], args: tuple[Any, ...], out: object) -> None:
        """Learn the result of a call on a followed tensor; results of anything but moves are forgotten."""
        origin = self.of(args[0]) if args else None
        if origin is None:
            return
        name = _attribute(func) or getattr(func, "__name__", "")
        results = out if isinstance(out, (tuple, list)) else (out,)
        for result in results:
            if isinstance(result, Tensor) and (axes := _moved(name, origin.axes, args, result)) is not None:
                self.learn(result, Origin(origin.parameter, axes))


_SAME = {
    "to", "float", "half", "bfloat16", "contiguous", "clone", "detach", "type", "type_as", "cuda", "cpu", "chunk",
    "split", "narrow", "tensor_split", "index_select",
}  # fmt: skip


def _attribute(func: Callable[..., Any]) -> str:
    """The name of a property: its getter is what torch hands on."""
    owner = getattr(func, "__self__", None)
    return getattr(owner, "__name__", "") if getattr(func, "__name__", "") == "__get__" else ""


def _moved(
    name: str, axes: tuple[int | None, ...], args: tuple[Any, ...], out: Tensor
) -> tuple[int | None, ...] | None:
    if name in _SAME:
        return axes if len(axes) == out.dim() else None
    if name in ("transpose", "swapaxes", "swapdims"):
        moved = list(axes)
        first, second = args[1], args[2]
        moved[first], moved[second] = moved[second], moved[first]
        return tuple(moved)
    if name in ("mT", "mH", "T", "t") and len(axes) >= 2:
        return (*axes[:-2], axes[-1], axes[-2])
    if name == "permute":
        order = args[1] if isinstance(args[1], (tuple, list)) else args[1:]
        return tuple(axes[i] for i in order)
    if name in ("select", "unbind"):
        dim = (args[1] if len(args) > 1 else 0) % len(axes)
        return (*axes[:dim], *axes[dim + 1 :])
    if name == "__getitem__":
        return _indexed(axes, args[1], out)
    return None


def _indexed(axes: tuple[int | None, ...], index: Any, out: Tensor) -> tuple[int | None, ...] | None:
    """Axes after indexing the first axis with a number, a slice or a tensor; other indexing is not followed."""
    if isinstance(index, tuple):
        if len(index) != 1:
            return None
        (index,) = index
    rest = axes[1:]
    lead = out.dim() - len(rest)
    return (*[None] * (lead - 1), axes[0], *rest) if lead > 0 else rest if lead == 0 else None
