"""QuantizerState: the fp32 statistics of a quantizer, and how they survive state dicts and casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

STATISTICS = ("amax", "outer_amax", "low", "high", "pre_quant_scale", "bias")


class QuantizerState(nn.Module):
    """What calibration writes into a quantizer; None where nothing was written.

    Attributes:
        amax: fp32 [grid rows, grid cols], magnitudes of the blocks; None: taken from the tensor.
        outer_amax: fp32 [], magnitude behind the outer scale of a two-level format; None likewise.
        low, high: fp32 [grid rows, grid cols], the range of each block of an asymmetric format; None likewise.
        pre_quant_scale: fp32 [cols]; the matrix is multiplied by it before rounding, and stays so.
        bias: fp32 [cols] or [1]; taken off before rounding and put back after it.

    They keep fp32 when the model is cast to another dtype.
    """

    amax: Tensor | None
    outer_amax: Tensor | None
    low: Tensor | None
    high: Tensor | None
    pre_quant_scale: Tensor | None
    bias: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self._buffers.update(dict.fromkeys(STATISTICS))  # registered: models have thousands of quantizers

    def set_amax(self, amax: Tensor | None, outer_amax: Tensor | None) -> None:
        """Set the calibrated magnitudes (fp32 [grid rows, grid cols] and []); None leaves a level to the tensor.

        An amax that was being learned is a plain statistic again.
        """
        if self._parameters.pop("amax", None) is not None:
            self.register_buffer("amax", None)
        outer = _fp32(outer_amax)
        self._write(amax=_fp32(amax), outer_amax=None if outer is None else outer.reshape(()))

    def set_range(self, low: Tensor | None, high: Tensor | None) -> None:
        """Set the calibrated range of each block (fp32 [grid rows, grid cols]) of an asymmetric format."""
        self._write(low=_fp32(low), high=_fp32(high))

    def set_pre_quant_scale(self, scale: Tensor | None) -> None:
        """Multiply the columns by `scale`, fp32 [cols], before rounding; None stops that.

        It applies to whatever the quantizer holds, weight or activation, and also while rounding is disabled. So a
        layer keeps its function when its input quantizer has s and its weight quantizer 1 / s; the weight itself
        is never changed.
        """
        self._write(pre_quant_scale=_fp32(scale))

    def set_bias(self, bias: Tensor | None) -> None:
        """Round x - bias and add the bias again: for tensors that are not centred (keys); fp32 [cols] or [1]."""
        self._write(bias=_fp32(bias))

    def _write(self, **statistics: Tensor | None) -> None:
        """Set buffers without asking nn.Module whether they are parameters: models have thousands of quantizers."""
        self._buffers.update(statistics)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Moves between devices are followed; casts are not: a statistic in bf16 would give other scales."""
        before = {n: t.detach() for n in STATISTICS if (t := getattr(self, n)) is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, exact in before.items():
            moved: Tensor = getattr(self, name)
            if moved.dtype != torch.float32:
                moved.data = exact.to(moved.device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A calibrated state may be loaded into a fresh quantizer, whose statistics do not exist yet."""
        for name in STATISTICS:
            stored = state_dict.get(prefix + name)
            if stored is not None and getattr(self, name) is None:
                setattr(self, name, torch.empty_like(stored))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _fp32(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().float()
