"""Starting kernels: Triton compiles for each kind of arguments once; later starts skip its bookkeeping."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from mtopt_kernels.restart import heard

_COMPILED: dict[tuple[Any, ...], Any] = {}
"""Compiled kernels by kernel, device, warps and the kinds of their arguments."""


def start(kernel: Any, programs: int, *arguments: Any, warps: int, early: bool = False) -> None:
    """Run `programs` programs of a Triton kernel on the device of its first argument, a tensor or its descriptor.

    Triton examines every argument at every launch, which takes longer than many a kernel runs. What it compiles
    differently makes up the key here: constants, 16-byte alignment, divisibility by 16, the number 1, numbers
    beyond int32. Equal keys are started directly. An `early` kernel waits itself (`gdc_wait`) for what was started
    before it, so that its programs are in place when that ends; it needs sm_90.
    """
    device = _device_of(arguments[0])
    if device.type != "cuda":  # in the interpreter, or written down by `mtopt_kernels.ahead`
        kernel[(programs,)](*arguments, num_warps=warps, **_options(early))
    elif device.index == torch.cuda.current_device():
        start_directly(kernel, programs, *arguments, warps=warps, early=early)
    else:
        with torch.cuda.device(device):
            start_directly(kernel, programs, *arguments, warps=warps, early=early)


def start_directly(kernel: Any, programs: int, *arguments: Any, warps: int, early: bool = False) -> None:
    """`start` on the current device."""
    device = _device_of(arguments[0])
    key = (kernel, device.index, warps, *map(_kind, arguments, _constant_places(kernel)))
    compiled = _COMPILED.get(key)
    if compiled is None or triton.knobs.runtime.launch_enter_hook.calls:  # a profiler's
        compiled = _COMPILED[key] = kernel[(programs,)](*arguments, num_warps=warps, **_options(early))
    else:
        compiled[(programs, 1, 1)](*arguments)
    heard(compiled, programs, arguments)


def starts_early() -> bool:
    """Whether kernels that can start early do: where Inductor's do (`torch._inductor.config.triton.enable_pdl`).

    Behind a kernel that lets none begin, each pays for it. (H200, a token of a compiled Llama of 2.0 B parameters
    in NVFP4: 670 us without, 687 if ours alone start early; 629 if Inductor's do, 606 if all do.)
    """
    inductor = sys.modules.get("torch._inductor.config")
    return inductor is not None and bool(getattr(inductor.triton, "enable_pdl", False))


def _options(early: bool) -> dict[str, bool]:
    return {"launch_pdl": True} if early else {}


@cache
def processors(device: torch.device) -> int:
    """The multiprocessors of a GPU; 1 elsewhere."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _device_of(argument: Tensor | TensorDescriptor) -> torch.device:
    return argument.device if isinstance(argument, Tensor) else argument.base.device


@cache
def _constant_places(kernel: Any) -> tuple[bool, ...]:
    return tuple(parameter.is_constexpr for parameter in kernel.params)


def _kind(argument: Any, constant: bool) -> Any:
    if constant or argument is None:
        return argument
    if isinstance(argument, Tensor):
        return argument.dtype, argument.data_ptr() % 16 == 0
    if isinstance(argument, TensorDescriptor):
        return argument.base.dtype, *argument.block_shape
    return argument % 16 == 0, argument == 1, argument >= 2**31
