"""Observers: statistics of one tensor, gathered batch by batch."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.formats import WHOLE
from mtcore.nn import TensorQuantizer
from mtcore.numerics import block_amax, tensor_amax


class AmaxObserver:
    """The largest magnitudes that a quantizer needs: of the tensor, and of blocks that do not follow rows.

    Attributes:
        amax: fp32 [grid rows, grid cols] or None, the running maximum of each block.
        outer_amax: fp32 [] or None, the running maximum of the whole tensor (two-level formats).
        batches: how many matrices were seen.

    No value is read back to the host while data runs.
    """

    def __init__(self, quantizer: TensorQuantizer) -> None:
        self.format = quantizer.format
        self._blocks = quantizer.mode == "static" and self.format.block.rows == WHOLE
        self.amax: Tensor | None = None
        self.outer_amax: Tensor | None = None
        self.batches = 0

    def update(self, matrix: Tensor) -> None:
        """Take in one matrix [rows, cols]; NaN stays NaN for good, so that it is found at the end."""
        if matrix.numel() == 0:
            return
        self.batches += 1
        if self._blocks:
            self.amax = _larger(self.amax, block_amax(matrix, self.format.block))
        if self.format.outer is not None:
            self.outer_amax = _larger(self.outer_amax, tensor_amax(matrix))

    @property
    def finite(self) -> bool:
        """Whether every magnitude seen so far was finite."""
        return all(bool(a.isfinite().all()) for a in (self.amax, self.outer_amax) if a is not None)


def _larger(known: Tensor | None, new: Tensor) -> Tensor:
    return new if known is None else torch.maximum(known, new)
