"""Starting kernels: Triton compiles for each kind of arguments once; later starts skip its bookkeeping."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

_COMPILED: dict[tuple[Any, ...], Any] = {}
"""Compiled kernels by kernel, device, warps and the kinds of their arguments."""


def start(kernel: Any, programs: int, *arguments: Any, warps: int) -> None:
    """Run `programs` programs of a Triton kernel on the device of its first argument, a tensor.

    Triton examines every argument at every launch, which takes longer than many a kernel runs. What it compiles
    differently makes up the key here: constants, 16-byte alignment, divisibility by 16, the number 1, numbers
    beyond int32. Equal keys are started directly.
    """
    device = arguments[0].device
    if device.type != "cuda":  # in the interpreter, or written down by `mtopt_kernels.ahead`
        kernel[(programs,)](*arguments, num_warps=warps)
    elif device.index == torch.cuda.current_device():
        start_directly(kernel, programs, *arguments, warps=warps)
    else:
        with torch.cuda.device(device):
            start_directly(kernel, programs, *arguments, warps=warps)


def start_directly(kernel: Any, programs: int, *arguments: Any, warps: int) -> None:
    """`start` on the current device."""
    device = arguments[0].device
    key = (kernel, device.index, warps, *map(_kind, arguments, _constant_places(kernel)))
    compiled = _COMPILED.get(key)
    if compiled is None or triton.knobs.runtime.launch_enter_hook.calls:  # a profiler's
        _COMPILED[key] = kernel[(programs,)](*arguments, num_warps=warps)
    else:
        compiled[(programs, 1, 1)](*arguments)


@cache
def _constant_places(kernel: Any) -> tuple[bool, ...]:
    return tuple(parameter.is_constexpr for parameter in kernel.params)


def _kind(argument: Any, constant: bool) -> Any:
    if constant or argument is None:
        return argument
    if isinstance(argument, Tensor):
        return argument.dtype, argument.data_ptr() % 16 == 0
    return argument % 16 == 0, argument == 1, argument >= 2**31
