"""A mark for torch.compile: functions that it calls while tracing, and does not trace into."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])


def compile_time_constant(function: _Function) -> _Function:
    """Mark a pure function of constants.

    It does what torch.compiler.assume_constant_result does, which would import the whole compiler, for seconds.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
