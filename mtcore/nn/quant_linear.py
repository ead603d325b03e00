"""QuantLinear: y = x Wᵀ + b with quantized input, weight and output."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mtcore.nn.quant_module import QuantModule


class QuantLinear(QuantModule, nn.Linear):
    """nn.Linear with the slots input, weight and output; shapes as in torch.nn.Linear."""

    input_quantizer: nn.Module
    weight_quantizer: nn.Module
    output_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        x: Tensor = self.input_quantizer(input)
        weight: Tensor = self.weight_quantizer(self.weight)
        y: Tensor = self.output_quantizer(F.linear(x, weight, self.bias))
        return y
