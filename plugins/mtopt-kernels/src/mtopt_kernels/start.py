"""Starting kernels: Triton compiles for each kind of arguments once; later starts skip its bookkeeping."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor
from triton.runtime import driver
from triton.tools.tensor_descriptor import TensorDescriptor

_COMPILED: dict[tuple[Any, ...], Any] = {}
"""Compiled kernels by kernel, device, warps and the kinds of their arguments."""


KNOWN_TRITONS = ("3.6", "3.9")
"""Versions whose compiled kernels were seen to be started as `Started.again` does."""


@dataclass(frozen=True)
class Started:
    """A start that was made, to be made again with other tensors of the same kinds.

    Attributes:
        compiled: what Triton made of the kernel; None where it was not started on a GPU.
        programs, arguments: of the start; tensors that `again` is to replace are their places among its own.
        places: (place in arguments, place among the tensors given to `again`).
    """

    compiled: Any
    programs: int
    arguments: tuple[Any, ...]
    places: tuple[tuple[int, int], ...] = ()

    def of(self, tensors: Sequence[Tensor | None]) -> Started | None:
        """The start as one of these tensors; None where it reads or writes others, or cannot be made again."""
        if self.compiled is None or triton.__version__[:3] not in KNOWN_TRITONS:
            return None
        places = []
        for place, argument in enumerate(self.arguments):
            if isinstance(argument, Tensor):
                same = [number for number, tensor in enumerate(tensors) if tensor is argument]
                if not same:
                    return None
                places.append((place, same[0]))
        arguments = tuple(0 if isinstance(argument, Tensor) else argument for argument in self.arguments)
        return Started(self.compiled, self.programs, arguments, tuple(places))

    def again(self, *tensors: Tensor | None, device: int) -> bool:
        """Start once more, with addresses for tensors and nothing looked at again.

        Returns:
            Whether it was: not where another device is the current one, and not while a profiler listens, which
            Triton itself must tell.
        """
        if device != driver.active.get_current_device() or triton.knobs.runtime.launch_enter_hook.calls:
            return False
        arguments = list(self.arguments)
        for place, number in self.places:
            arguments[place] = tensors[number].data_ptr()  # type: ignore[union-attr]
        compiled, stream = self.compiled, driver.active.get_current_stream(device)
        compiled.run(
            self.programs, 1, 1, stream, compiled.function, compiled.packed_metadata, None, None, None, *arguments
        )
        return True


def start(kernel: Any, programs: int, *arguments: Any, warps: int, early: bool = False) -> Started:
    """Run `programs` programs of a Triton kernel on the device of its first argument, a tensor or its descriptor.

    Triton examines every argument at every launch, which takes longer than many a kernel runs. What it compiles
    differently makes up the key here: constants, 16-byte alignment, divisibility by 16, the number 1, numbers
    beyond int32. Equal keys are started directly. An `early` kernel waits itself (`gdc_wait`) for what was started
    before it, so that its programs are in place when that ends; it needs sm_90.
    """
    device = _device_of(arguments[0])
    if device.type != "cuda":  # in the interpreter, or written down by `mtopt_kernels.ahead`
        kernel[(programs,)](*arguments, num_warps=warps, **_options(early))
        return Started(None, programs, arguments)
    if device.index == torch.cuda.current_device():
        return start_directly(kernel, programs, *arguments, warps=warps, early=early)
    with torch.cuda.device(device):
        return start_directly(kernel, programs, *arguments, warps=warps, early=early)


def start_directly(kernel: Any, programs: int, *arguments: Any, warps: int, early: bool = False) -> Started:
    """`start` on the current device."""
    device = _device_of(arguments[0])
    key = (kernel, device.index, warps, *map(_kind, arguments, _constant_places(kernel)))
    compiled = _COMPILED.get(key)
    if compiled is None or triton.knobs.runtime.launch_enter_hook.calls:  # a profiler's
        compiled = _COMPILED[key] = kernel[(programs,)](*arguments, num_warps=warps, **_options(early))
    else:
        compiled[(programs, 1, 1)](*arguments)
    return Started(compiled, programs, arguments)


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
