"""StoragePlanes: what the elements of a storage scale with, so that a write through one view is seen by all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from mtcore.trace.planes import CONST, NOTHING, ParamView, Plane, Shadow
from mtcore.trace.values import storage_key

Geometry = tuple[tuple[int, ...], tuple[int, ...], int, int]


@dataclass
class _Memory:
    """`shadow` describes the elements seen with `geometry`; `lines` are planes in storage order, once laid out."""

    alive: StorageWeakRef
    shadow: Shadow
    geometry: Geometry
    writes: int = 0
    lines: Shadow | None = None
    read: bool = False


class StoragePlanes:
    """One record a storage. A weak reference keeps its address from being given to another storage.

    A write costs one look-up. Planes in storage order are laid out only when a view needs them.
    """

    def __init__(self, resolve: Callable[[Shadow], Shadow]) -> None:
        self._memories: dict[int, _Memory] = {}
        self._resolve = resolve
        self._births = 0

    def birth(self, tensor: Tensor, shadow: Shadow) -> None:
        """Notes what a storage holds when it is seen for the first time."""
        key = storage_key(tensor)
        if key in self._memories or tensor.layout is not torch.strided:
            return
        alive = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        self._memories[key] = _Memory(alive, shadow, _geometry(tensor))
        self._births += 1
        if self._births % 256 == 0:
            self._forget_the_dead()

    def writes(self, key: int) -> int:
        memory = self._memories.get(key)
        return memory.writes if memory is not None else -1

    def read(self, tensor: Tensor) -> Shadow:
        """The shadow of any tensor on a known storage; a constant on an unknown one."""
        memory = self._memories.get(storage_key(tensor))
        if memory is None:
            return NOTHING
        geometry = _geometry(tensor)
        if memory.lines is None:
            if geometry == memory.geometry or not memory.shadow:
                return memory.shadow
            memory.lines = _lay_out(memory, tensor)
        memory.read = True
        return _apply(memory.lines, lambda line: line.as_strided(*geometry[:3]))

    def write(self, tensor: Tensor, shadow: Shadow) -> None:
        """The elements of `tensor` now have the labels of `shadow`."""
        self.birth(tensor, shadow)
        memory = self._memories[storage_key(tensor)]
        memory.writes += 1
        geometry = _geometry(tensor)
        if geometry == memory.geometry and dense(tensor):
            memory.shadow, memory.lines = shadow, None
            return
        if memory.lines is None:
            if not memory.shadow and not shadow:
                return
            memory.shadow = self._resolve(memory.shadow)
            memory.lines, memory.read = _lay_out(memory, tensor), False
        if memory.read:  # earlier readers hold views of the lines
            memory.lines, memory.read = _apply(memory.lines, Tensor.clone), False
        count = tensor.untyped_storage().nbytes() // tensor.element_size()
        lines = memory.lines
        scale = _overwrite(lines.scale, shadow.scale, geometry, count)
        dim = _overwrite(lines.dim, shadow.dim, geometry, count)
        memory.lines = Shadow(scale, dim, lines.wild or shadow.wild)

    def _forget_the_dead(self) -> None:
        dead = [k for k, m in self._memories.items() if m.alive.expired()]  # type: ignore[no-untyped-call]
        for key in dead:
            del self._memories[key]


def _geometry(tensor: Tensor) -> Geometry:
    return tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), tensor.element_size()


def dense(tensor: Tensor) -> bool:
    """Whether the tensor is all that its storage holds."""
    if tensor.layout is not torch.strided:
        return False
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


def _apply(shadow: Shadow, fn: Callable[[Plane], Plane]) -> Shadow:
    view = shadow.view and ParamView(shadow.view.param, tuple(map(fn, shadow.view.coords)))
    return Shadow(tuple(map(fn, shadow.scale)), tuple(map(fn, shadow.dim)), shadow.wild, view)


def _lay_out(memory: _Memory, tensor: Tensor) -> Shadow:
    size, stride, offset, width = memory.geometry
    if tensor.element_size() != width:
        raise NotImplementedError("a view of a storage as another element size")
    count = tensor.untyped_storage().nbytes() // width

    def line(plane: Plane) -> Plane:
        flat = torch.full((count,), CONST)
        flat.as_strided(size, stride, offset).copy_(plane)
        return flat

    return _apply(memory.shadow, line)


def _overwrite(
    lines: tuple[Plane, ...], new: tuple[Plane, ...], geometry: Geometry, count: int
) -> tuple[Plane, ...]:
    size, stride, offset, _ = geometry
    out = list(lines)
    while len(out) < len(new):
        out.append(torch.full((count,), CONST))
    for i, line in enumerate(out):
        line.as_strided(size, stride, offset).copy_(new[i] if i < len(new) else torch.full((), CONST))
    return tuple(out)
