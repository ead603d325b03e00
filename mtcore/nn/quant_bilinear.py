"""QuantBilinear: y = x1ᵀ A x2 + b with both inputs, weight and output quantized."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mtcore.nn.quant_module import QuantModule
from mtcore.nn.spec import QuantModuleSpec


class QuantBilinear(QuantModule, nn.Bilinear):
    """nn.Bilinear with the slots left_input, right_input, weight and output."""

    left_input_quantizer: nn.Module
    right_input_quantizer: nn.Module
    weight_quantizer: nn.Module
    output_quantizer: nn.Module

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        left, right = self.left_input_quantizer(input1), self.right_input_quantizer(input2)
        y: Tensor = self.output_quantizer(F.bilinear(left, right, self.weight_quantizer(self.weight), self.bias))
        return y


BILINEAR = QuantModuleSpec(
    "nn.Bilinear", nn.Bilinear, QuantBilinear, activations=("left_input", "right_input", "output")
)
