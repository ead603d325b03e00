"""A choice without some alternatives: what a router would do if experts were not there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

AXES = {"aten::topk": (2, -1), "aten::argmax": (1, None), "aten::_softmax": (1, -1), "aten::softmax": (1, -1)}
"""Operations over alternatives: the place of their `dim` and its default."""


@contextmanager
def without_alternatives(model: nn.Module, module: str, count: int, gone: Collection[int]) -> Iterator[None]:
    """While it lasts, this module's choices and softmaxes among `count` alternatives see -inf for those `gone`."""
    mode = _Without(count, sorted(gone))
    where = model.get_submodule(module)
    handles = [
        where.register_forward_pre_hook(lambda *_: mode.enter()),
        where.register_forward_hook(lambda *_: mode.leave(), always_call=True),
    ]
    try:
        with mode:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Without(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, count: int, gone: list[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._count, self._gone, self._depth = count, gone, 0

    def enter(self) -> None:
        self._depth += 1

    def leave(self) -> None:
        self._depth -= 1

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._depth and func._schema.name in AXES:
            place, default = AXES[func._schema.name]
            dim = args[place] if len(args) > place else kwargs.get("dim", default)
            x = args[0]
            if dim is not None and x.dim() and x.shape[dim] == self._count:
                args = (x.index_fill(dim, torch.tensor(self._gone, device=x.device), -torch.inf), *args[1:])
        return func(*args, **kwargs)
