"""StackedQuantizer: a weight that holds one matrix an expert, each with scales of its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mtcore.formats import TensorFormat
from mtcore.nn.tensor_quantizer import TensorQuantizer
from mtcore.recipe.setting import Mode


class StackedQuantizer(nn.ModuleList):
    """One TensorQuantizer an expert; `forward` fake-quantizes a weight [experts, …] matrix by matrix."""

    def __init__(self, fmt: TensorFormat, mode: Mode, *, experts: int, channel_axis: int) -> None:
        """
        Args:
            fmt, mode: of every matrix.
            experts: size of the first axis.
            channel_axis: axis of the output channels in one matrix, 0 or 1.
        """
        super().__init__(TensorQuantizer(fmt, mode, channel_axis=channel_axis) for _ in range(experts))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.stack([quantizer(w) for quantizer, w in zip(self.quantizers(), weight.unbind(0), strict=True)])

    def quantizers(self) -> Iterator[TensorQuantizer]:
        """The quantizer of each expert."""
        for quantizer in self:
            assert isinstance(quantizer, TensorQuantizer)
            yield quantizer

    @property
    def idle(self) -> bool:
        return all(quantizer.idle for quantizer in self.quantizers())
