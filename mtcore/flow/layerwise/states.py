"""Hidden states on disk: what enters a block, one file a batch, in the original and in the changed model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from mtcore.files import TensorFile, save_tensors

_ORIGINAL, _CHANGED = "original", "changed"


class States:
    """The states that enter one block."""

    def __init__(self, folder: Path, count: int, device: torch.device) -> None:
        self._folder, self._count, self._device = folder, count, device

    @property
    def original(self) -> Sequence[Tensor]:
        """In the original model, one a batch; read when it is asked for."""
        return _Column(self._folder, _ORIGINAL, self._count, self._device)

    @property
    def changed(self) -> Sequence[Tensor]:
        """In the model whose earlier blocks are quantized."""
        return _Column(self._folder, _CHANGED, self._count, self._device)

    def write(self, batch: int, original: Tensor, changed: Tensor | None) -> None:
        """Keep the states of one batch. `changed` None: it is not wanted."""
        self._folder.mkdir(exist_ok=True)
        states = {_ORIGINAL: original} if changed is None else {_ORIGINAL: original, _CHANGED: changed}
        save_tensors(_file(self._folder, batch), states, states)


class _Column(Sequence[Tensor]):
    def __init__(self, folder: Path, which: str, count: int, device: torch.device) -> None:
        self._folder, self._which, self._count, self._device = folder, which, count, device

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return TensorFile(_file(self._folder, index))[self._which].to(self._device, copy=True)


def _file(folder: Path, batch: int) -> Path:
    return folder / f"{batch:05d}.safetensors"
