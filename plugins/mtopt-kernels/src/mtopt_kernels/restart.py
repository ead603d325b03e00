"""Starts that were made, to be made again with other tensors: nothing is looked at but their addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.runtime import driver
from triton.tools.tensor_descriptor import TensorDescriptor

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


def heard(compiled: Any, programs: int, arguments: Sequence[Any]) -> None:
    """Tell of a start, where starts are collected."""
    starts = _OVERHEARD.get()
    if starts is not None:
        starts.append(Started(compiled, programs, arguments))
