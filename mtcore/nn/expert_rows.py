"""Expert rows: which rows each matrix of a stack is multiplied with, and how many, read off the products."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mtcore.trace.products import Operand, Origins

_COUNTED: ContextVar[bool] = ContextVar("mtcore_expert_rows_counted", default=True)


@contextmanager
def not_counted() -> Iterator[None]:
    """What experts are given meanwhile is not of the router's choice, and no rows are counted."""
    token = _COUNTED.set(False)
    try:
        yield
    finally:
        _COUNTED.reset(token)


def counted() -> bool:
    """Whether rows are counted now."""
    return _COUNTED.get()


_PICKING = ("__getitem__", "select", "unbind", "index_select")


class ExpertRows:
    """Tells the rows of one stack [experts, …] apart during a forward, whichever way the experts are computed.

    What is cut out of the stack is followed: the same cut of the numbers of the experts says which are in it.
    To count waits for no device; to split does.

    Attributes:
        counts: int64 [experts], rows so far.
        known: whether every product could be counted.
    """

    def __init__(self, stack: Tensor) -> None:
        self.counts = torch.zeros(len(stack), dtype=torch.int64, device=stack.device)
        self.known = True
        self._picked: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._learn(stack, torch.arange(len(stack), device=stack.device))

    def follow(self, func: Callable[..., Any], args: tuple[Any, ...], out: object, origins: Origins) -> None:
        """Learn which experts are in the result of a call; asked after `origins` have learned its place."""
        picked = self._of(args[0]) if args else None
        results = out if isinstance(out, (tuple, list)) else (out,)
        if picked is None or not any(origins.of(result) is not None for result in results):
            return
        name = getattr(func, "__name__", "")
        cut: Any = picked
        if name in _PICKING and _along_first(name, args):
            cut = func(picked, *args[1:])
        parts = cut if isinstance(cut, (tuple, list)) else [cut] * len(results)
        for result, part in zip(results, parts, strict=True):
            if isinstance(result, Tensor):
                self._learn(result, part)

    def count(self, weight: Tensor, other: Operand, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Take in a product of what was cut out of the stack with another factor."""
        picked = self._of(weight)
        if picked is None:
            self.known = False
            return
        rows = other.tensor.numel() // max(1, other.tensor.shape[other.contracted])
        ends = _ends(args, kwargs)
        if ends is not None:
            self.counts += torch.diff(ends.to(self.counts.dtype), prepend=self.counts.new_zeros(1))
        elif picked.dim() == 0:
            self.counts.index_add_(0, picked.view(1), self.counts.new_full((1,), rows))
        elif picked.dim() == 1:
            each = rows // len(picked) if other.tensor.dim() > 2 else rows  # a matrix meets every expert
            self.counts.index_add_(0, picked, torch.full_like(picked, each))
        else:
            self.known = False

    def split(
        self, weight: Tensor, other: Operand, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Iterator[tuple[int, Tensor]]:
        """(expert, its rows [n, cols]) of a product; nothing where they cannot be told apart."""
        picked = self._of(weight)
        x = other.tensor.movedim(other.contracted, -1)
        ends = _ends(args, kwargs)
        if picked is None or picked.dim() > 1:
            return
        if ends is not None:
            if x.dim() == 2 and picked.shape == ends.shape:
                for expert, (start, end) in zip(picked.tolist(), pairwise([0, *ends.tolist()]), strict=True):
                    yield expert, x[start:end]
        elif picked.dim() == 0:
            yield int(picked), x.reshape(-1, x.shape[-1])
        elif x.dim() <= 2:  # a matrix meets every expert
            yield from ((expert, x.reshape(-1, x.shape[-1])) for expert in dict.fromkeys(picked.tolist()))
        else:
            x = x.expand(len(picked), *x.shape[1:])
            for expert in dict.fromkeys(picked.tolist()):
                yield expert, x[picked == expert].reshape(-1, x.shape[-1])

    def _learn(self, tensor: Tensor, picked: Tensor) -> None:
        self._picked[id(tensor)] = (weakref.ref(tensor), picked)

    def _of(self, tensor: object) -> Tensor | None:
        found = self._picked.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None


def _ends(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Where the rows of each expert end, of a grouped product; None of any other."""
    ends = kwargs.get("offs", args[2] if len(args) > 2 else None)
    return ends if isinstance(ends, Tensor) and not ends.is_floating_point() else None


def _along_first(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a cut goes along the first axis; indexing does, as far as it is followed."""
    return name == "__getitem__" or (len(args) < 2 and name == "unbind") or (len(args) > 1 and args[1] == 0)
