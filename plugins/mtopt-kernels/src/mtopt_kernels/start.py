"""Starting kernels: Triton compiles for each kind of arguments once; later starts skip its bookkeeping."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.runtime import driver
from triton.tools.tensor_descriptor import TensorDescriptor

_COMPILED: dict[tuple[Any, ...], Any] = {}
"""Compiled kernels by kernel, device, warps and the kinds of their arguments."""


KNOWN_TRITONS = ("3.6", "3.7", "3.8", "3.9")
"""Versions whose compiled kernels were seen to be started as a `Restart` does."""
_IS_KNOWN = triton.__version__[:3] in KNOWN_TRITONS

_OVERHEARD: ContextVar[list[Started] | None] = ContextVar("_OVERHEARD", default=None)


class Restart(NamedTuple):
    """A start to be made with other tensors and nothing looked at again.

    Attributes:
        compiled: what Triton made of the kernel.
        programs, arguments: of the start, with 0 for tensors.
        places: of tensors among the arguments, each with the place of its address among those that are given.
    """

    compiled: Any
    programs: int
    arguments: Sequence[Any]
    places: Sequence[tuple[int, int]]

    def __call__(self, addresses: Sequence[int], device: torch.device) -> None:
        """Start it on a device where `can_restart`."""
        arguments, compiled = list(self.arguments), self.compiled
        for place, number in self.places:
            arguments[place] = addresses[number]
        stream = driver.active.get_current_stream(device.index or 0)
        compiled.run(
            self.programs, 1, 1, stream, compiled.function, compiled.packed_metadata, None, None, None, *arguments
        )


class Started(NamedTuple):
    """A start that was made.

    Attributes:
        compiled: what Triton made of the kernel; None where it was not started on a GPU.
        programs, arguments: of the start.
    """

    compiled: Any
    programs: int
    arguments: Sequence[Any]

    def tensors(self) -> Iterator[Tensor]:
        """Those among the arguments."""
        for argument in self.arguments:
            if isinstance(argument, Tensor):
                yield argument
            elif isinstance(argument, TensorDescriptor):
                yield argument.base

    def at(self, places: Mapping[int, int]) -> Restart | None:
        """The start with tensors at other addresses; None where it cannot be made again.

        Args:
            places: of the addresses that tensors have now.
        """
        if self.compiled is None or any(isinstance(argument, TensorDescriptor) for argument in self.arguments):
            return None
        arguments, numbers = list(self.arguments), []
        for place, argument in enumerate(self.arguments):
            if isinstance(argument, Tensor):
                arguments[place] = 0
                if argument.numel():
                    numbers.append((place, places[argument.data_ptr()]))
        return Restart(self.compiled, self.programs, arguments, numbers)


def can_restart(device: torch.device) -> bool:
    """Whether kernels are restarted: not where another device is the current one, and not while a profiler listens,
    which Triton itself must tell."""
    index = device.index  # None of a CPU
    hooks = triton.knobs.runtime
    if index is None or not _IS_KNOWN or hooks.launch_enter_hook.calls or hooks.launch_exit_hook.calls:
        return False
    current: int = torch.cuda.current_device()
    return index == current


@contextmanager
def overhear() -> Iterator[list[Started]]:
    """Collect all starts of this thread."""
    starts: list[Started] = []
    token = _OVERHEARD.set(starts)
    try:
        yield starts
    finally:
        _OVERHEARD.reset(token)


def overhearing() -> bool:
    """Whether starts are collected."""
    return _OVERHEARD.get() is not None


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
    starts = _OVERHEARD.get()
    if starts is not None:
        starts.append(Started(compiled, programs, arguments))


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
