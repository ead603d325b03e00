"""ChannelScale: what sits in the slot of an input that is scaled but not rounded."""

from __future__ import annotations

from torch import Tensor

from mtcore.nn.quantizer_state import QuantizerState


class ChannelScale(QuantizerState):
    """x · pre_quant_scale along the last axis, in the dtype of x; the identity where there is no scale."""

    @property
    def idle(self) -> bool:
        """Whether `forward` is the identity."""
        return self.pre_quant_scale is None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.pre_quant_scale is None else (x.float() * self.pre_quant_scale).to(x.dtype)
