"""LowRankLinear: a quantized linear layer beside which a low-rank part of its weight stays in 16 bits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtcore.nn.quant_linear import QuantLinear
from mtcore.nn.spec import QuantModuleSpec
from mtcore.nn.tensor_quantizer import TensorQuantizer


class LowRankLinear(QuantLinear):
    """y = Q(x) Q(W)ᵀ + (x Aᵀ) Bᵀ + b, with the slots of QuantLinear; the branch is not quantized.

    x is the input as it is scaled or rotated before it is rounded.

    Attributes:
        lora_a: A, [rank, in features]; zeros until a calibration splits the weight. In the dtype of the weight; the
            values that a calibration gives are those of a 16-bit type (`branch_dtype`).
        lora_b: B, [out features, rank]; likewise.
    """

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def add_branch(self, rank: int) -> None:
        """Give the layer a branch of zeros, in the dtype and on the device of the weight."""
        weight = self.weight
        for name, shape in (("lora_a", (rank, weight.shape[1])), ("lora_b", (weight.shape[0], rank))):
            zeros = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
            self.register_parameter(name, nn.Parameter(zeros, requires_grad=weight.requires_grad))

    @property
    def idle(self) -> bool:
        """Never: the branch is computed in any case."""
        return False

    def forward(self, input: Tensor) -> Tensor:
        quantizer = self.input_quantizer
        x = quantizer.unrounded(input) if isinstance(quantizer, TensorQuantizer) else quantizer(input)
        main = F.linear(self.input_quantizer(input), self.weight_quantizer(self.weight), self.bias)
        y: Tensor = self.output_quantizer(main + F.linear(F.linear(x, self.lora_a), self.lora_b))
        return y


def branch_dtype(weight: torch.dtype) -> torch.dtype:
    """The 16-bit type in which the branch of such a weight is kept: its own, or bf16, which has the range."""
    return torch.float16 if weight == torch.float16 else torch.bfloat16


LINEAR = QuantModuleSpec("nn.Linear", nn.Linear, QuantLinear, low_rank=LowRankLinear)
