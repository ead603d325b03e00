"""Dealing: the choices that a model makes while it runs, seen, or made to fall as they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CHOICES = {"aten::topk": (2, -1), "aten::argmax": (1, None)}
"""Operations that choose: the place of their `dim` and its default."""


class ChoicesSeen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells a function the number of alternatives of every choice that is made meanwhile."""

    def __init__(self, on_choice: Callable[[int], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._on_choice = on_choice

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        dim = _axis(func, args, kwargs or {})
        if dim is not None:
            self._on_choice(args[0].shape[dim])
        return func(*args, **(kwargs or {}))


class ChoicesDealt(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every choice of k among `count` alternatives takes the first k of `order` meanwhile, for all rows.

    Attributes:
        most: the largest k; 0 where there was no such choice.
    """

    def __init__(self, count: int, order: Sequence[int]) -> None:
        """`order`: a permutation of the alternatives."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._count, self._order, self.most = count, list(order), 0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        dim = _axis(func, args, kwargs or {})
        if dim is None or args[0].shape[dim] != self._count:
            return out
        if isinstance(out, Tensor):
            self.most = max(self.most, 1)
            return torch.full_like(out, self._order[0])
        x, chosen = args[0], out[1].shape[dim]
        self.most = max(self.most, chosen)
        shape = [chosen if axis == dim % x.dim() else 1 for axis in range(x.dim())]
        taken = torch.tensor(self._order[:chosen], device=x.device).view(shape).expand_as(out[1]).contiguous()
        return x.gather(dim, taken), taken


def _axis(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """The axis along which a call chooses; None where it is no choice along an axis."""
    if func._schema.name not in CHOICES or not args[0].dim():
        return None
    place, default = CHOICES[func._schema.name]
    dim: int | None = args[place] if len(args) > place else kwargs.get("dim", default)
    return dim
