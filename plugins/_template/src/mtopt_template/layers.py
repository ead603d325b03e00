"""A layer that mtcore does not know: its quantized form, and the sizes in it that can change."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mtcore.nn import QuantModule, QuantModuleSpec
from mtcore.trace import Symbol, SymbolSpec, SymInfo


class ScaledLinear(nn.Linear):
    """y = (x Wᵀ + b) / 2. Yours comes from the library that the plugin is for."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 0.5


class QuantScaledLinear(QuantModule, ScaledLinear):
    """The same with a quantizer where each tensor is read."""

    input_quantizer: nn.Module
    weight_quantizer: nn.Module
    output_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        x = self.input_quantizer(input)
        y: Tensor = self.output_quantizer(F.linear(x, self.weight_quantizer(self.weight), self.bias) * 0.5)
        return y


SCALED_LINEAR = QuantModuleSpec("mtopt_template.ScaledLinear", ScaledLinear, QuantScaledLinear)


def symbols_of(layer: nn.Module) -> SymInfo:
    """Outputs are the rows of the weight, inputs its columns; a search may change the number of outputs."""
    return SymInfo(
        {
            "out_features": Symbol(is_searchable=True, parameter="weight", axis=0),
            "in_features": Symbol(parameter="weight", axis=1),
        }
    )


SYMBOLS = SymbolSpec("mtopt_template.ScaledLinear", ScaledLinear, symbols_of)
