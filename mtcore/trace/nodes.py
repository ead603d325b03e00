"""How one recorded torch call is spelt in an fx.Graph: targets, argument order, what changes its operands."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_BINARY = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "div": operator.truediv, "floordiv": operator.floordiv, "mod": operator.mod, "pow": operator.pow,
    "matmul": operator.matmul, "and": operator.and_, "or": operator.or_, "xor": operator.xor,
    "lshift": operator.lshift, "rshift": operator.rshift,
}  # fmt: skip
_OTHER = {
    "__getitem__": operator.getitem, "__setitem__": operator.setitem, "__neg__": operator.neg,
    "__invert__": operator.invert, "__abs__": operator.abs, "__pos__": operator.pos,
    "__eq__": operator.eq, "__ne__": operator.ne, "__lt__": operator.lt, "__le__": operator.le,
    "__gt__": operator.gt, "__ge__": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Spelling:
    """`op` and `target` as in torch.fx; `swap` when the operands of a reflected operator change places."""

    op: str
    target: Any
    swap: bool = False
    tail: tuple[Any, ...] = ()
    """Arguments put after the recorded ones: the attribute's name of a property."""

    def arguments(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.swap:
            return (args[1], args[0])
        return (args[0], *self.tail, *args[1:]) if self.tail else args


def spell(func: Callable[..., Any]) -> Spelling:
    """The fx spelling of a callable that arrived at `__torch_function__`."""
    name = getattr(func, "__name__", "")
    owner = getattr(func, "__self__", None)
    if name in ("__get__", "__set__"):
        attribute = getattr(owner, "__name__", "")
        return Spelling("call_function", getattr if name == "__get__" else setattr, tail=(attribute,))
    if name in _OTHER:
        return Spelling("call_function", _OTHER[name])
    stem = name.strip("_") if name.startswith("__") else ""
    if stem in _BINARY:
        return Spelling("call_function", _BINARY[stem])
    if stem[:1] == "r" and stem[1:] in _BINARY:
        return Spelling("call_function", _BINARY[stem[1:]], swap=True)
    if _is_tensor_method(func, name):
        return Spelling("call_method", name)
    return Spelling("call_function", func)


def changes_operands(func: Callable[..., Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the call writes into a tensor that it was given."""
    name = getattr(func, "__name__", "")
    if kwargs.get("out") is not None or name in ("__setitem__", "__set__"):
        return True
    if name.startswith("__"):
        return name.startswith("__i") and name.strip("_")[1:] in _BINARY
    return name.endswith("_") or bool(kwargs.get("inplace"))


def _is_tensor_method(func: Callable[..., Any], name: str) -> bool:
    return getattr(Tensor, name, None) is func or getattr(func, "__objclass__", None) in Tensor.__mro__
