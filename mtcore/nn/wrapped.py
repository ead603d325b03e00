"""A forward that was wrapped on the instance: known where it runs the class's own, and then carried to the twin.

accelerate wraps the forwards of a model that it spreads over devices (`device_map`): each first moves its inputs.
"""

from __future__ import annotations

from functools import partial, update_wrapper
from typing import Any

from torch import nn

_FORWARD, _INNER = "forward", "_old_forward"


def is_wrapped(module: nn.Module) -> bool:
    """Whether the forward on the instance takes the module and runs the one of its class.

    Example:
        >>> is_wrapped(nn.Linear(2, 2))
        False
    """
    outer, inner = vars(module).get(_FORWARD), vars(module).get(_INNER)
    return (
        isinstance(outer, partial)
        and len(outer.args) == 1
        and outer.args[0] is module
        and getattr(inner, "__self__", None) is module
        and getattr(inner, "__func__", None) is type(module).forward
    )


def is_replaced(module: nn.Module) -> bool:
    """Whether the forward on the instance is anything else: a twin would not run it."""
    return _FORWARD in vars(module) and not is_wrapped(module)


def is_offloaded(module: nn.Module) -> bool:
    """Whether its own parameters are elsewhere until its forward runs."""
    return is_wrapped(module) and any(parameter.is_meta for parameter in module.parameters(recurse=False))


def wrap_alike(twin: nn.Module, original: nn.Module) -> None:
    """Wrap the twin's own forward as that of the original is wrapped; `twin` has all attributes of `original`."""
    if not is_wrapped(original):
        return
    own: Any = type(twin).forward.__get__(twin)
    outer = vars(original)[_FORWARD]
    vars(twin)[_INNER] = own
    vars(twin)[_FORWARD] = update_wrapper(partial(outer.func, twin), own)
