"""Residency: parts of a model that are on the device, in the dtype to compute in, only while they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtcore.files import drop_pages

NARROW = (torch.bfloat16, torch.float16)
"""What a CPU computes several times slower than fp32."""


class Residency:
    """Parameters that lie elsewhere (in a file, in host memory), copied to the device part by part.

    The Parameter objects stay; only their data are exchanged. Afterwards they are what they were, whatever happened
    to the copies. Pages of a file that were read for a copy are given back at once.
    """

    def __init__(self, model: nn.Module, parts: Mapping[str, Sequence[nn.Parameter]], device: torch.device) -> None:
        """
        Args:
            parts: name of a module of the model → the parameters that its forward needs. A parameter may be in
                several.
            device: to compute on. On a CPU, 16-bit parameters are copied as fp32, which holds them exactly.
        """
        self._model, self._parts, self._device = model, parts, device
        self._home: dict[int, tuple[nn.Parameter, Tensor]] = {}
        self._held: dict[int, int] = {}

    def compute_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype in which a parameter of this dtype is held on the device."""
        return torch.float32 if self._device.type == "cpu" and dtype in NARROW else dtype

    def size_bytes(self, part: str) -> int:
        """What one part takes on the device."""
        return sum(p.numel() * self.compute_dtype(p.dtype).itemsize for p in self._parts[part])

    @contextmanager
    def hold(self, parts: Iterable[str]) -> Iterator[None]:
        """The parts are on the device meanwhile."""
        entered: list[str] = []
        try:
            for part in parts:
                entered.append(part)
                self._enter(part)
            yield
        finally:
            for part in entered:
                self._leave(part)

    @contextmanager
    def on_demand(self, parts: Iterable[str]) -> Iterator[None]:
        """Each part is on the device while its module's forward runs."""
        handles = []
        try:
            for part in parts:
                module = self._model.get_submodule(part)
                handles.append(module.register_forward_pre_hook(lambda *_, part=part: self._enter(part)))
                handles.append(
                    module.register_forward_hook(lambda *_, part=part: self._leave(part), always_call=True)
                )
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, part: str) -> None:
        for parameter in self._parts[part]:
            key = id(parameter)
            self._held[key] = self._held.get(key, 0) + 1
            if self._held[key] == 1:
                home = parameter.data
                self._home[key] = (parameter, home)
                parameter.data = home.to(self._device, self.compute_dtype(home.dtype), copy=True)
                drop_pages(home)

    def _leave(self, part: str) -> None:
        for parameter in self._parts[part]:
            key = id(parameter)
            if key not in self._held:  # `_enter` was interrupted before it
                continue
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
                if key in self._home:
                    _, parameter.data = self._home.pop(key)


@contextmanager
def pages_dropped_after_use(model: nn.Module) -> Iterator[None]:
    """Parameters that lie in a mapped file take memory only while the forward of their own module runs."""
    handles = []

    def drop(module: nn.Module, *_: object) -> None:
        for parameter in module.parameters(recurse=False):
            drop_pages(parameter)

    try:
        for module in model.modules():
            if next(module.parameters(recurse=False), None) is not None:
                handles.append(module.register_forward_hook(drop))
        yield
    finally:
        for handle in handles:
            handle.remove()
