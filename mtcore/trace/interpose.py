"""Seeing every call of a module: a wrapper around `nn.Module.__call__` for the length of one forward."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

Call = Callable[..., Any]
Around = Callable[[nn.Module, Call, tuple[Any, ...], Mapping[str, Any]], Any]
"""Runs `call(*args, **kwargs)` for a module and returns its result."""


@contextmanager
def around_module_calls(model: nn.Module, around: Around) -> Iterator[None]:
    """Calls `around(module, call, args, kwargs)` for every module of `model` that this thread calls.

    Modules that are not registered in `model`, and other threads, are left alone.
    Hooks run as always, inside `call`.
    """
    known = {id(module) for module in model.modules()}
    thread = threading.get_ident()
    original = nn.Module.__call__

    def interposed(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if id(module) not in known or threading.get_ident() != thread:
            return original(module, *args, **kwargs)
        return around(module, lambda *a, **k: original(module, *a, **k), args, kwargs)

    nn.Module.__call__ = interposed  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]
