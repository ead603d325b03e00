"""PackedLinear: y = x Wᵀ + b with a weight that is stored in its codes, computed by the kernel that was chosen."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mtcore.backends import KernelChoice
from mtcore.errors import StateError
from mtcore.nn.quant_linear import QuantLinear
from mtcore.nn.tensor_quantizer import TensorQuantizer
from mtcore.numerics import QTensor


class Siblings(Protocol):
    """What computes layers that read one value together; see `PackedSiblings`."""

    def part(self, place: int, x: Tensor) -> Tensor | None:
        """The product [tokens, out features] of the layer at `place` with x; None where it must compute alone."""

    def compare(self) -> None:
        """Look again whether the layers' inputs are quantized alike, after buffers were loaded."""


class PackedLinear(nn.Module):
    """A linear layer for inference; shapes as in torch.nn.Linear. It holds no float weight and cannot be trained.

    Attributes:
        qdata, scale, scale_2: of the weight, as the kernel reads them (see `KernelSpec.prepare`).
        bias: [out features] or None.
        input_amax, input_outer_amax: calibrated magnitudes of the input, where the kernel quantizes it.
        input_quantizer: does that where the kernel does not; else the identity.
        kernel: the choice.
        siblings, place: layers that read the same value, and which of them this is; None where there are none.
    """

    qdata: Tensor
    scale: Tensor
    scale_2: Tensor | None
    input_amax: Tensor | None
    input_outer_amax: Tensor | None

    def __init__(self, layer: QuantLinear, weight: QTensor, kernel: KernelChoice) -> None:
        """
        Args:
            layer: whose place this one takes.
            weight: its weight as its quantizer stores it.
            kernel: for the operation `linear`; with an input format where it quantizes the input itself.
        """
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        prepare = kernel.kernel.prepare
        stored = (weight.qdata, weight.qparams.scale)
        qdata, scale = stored if prepare is None else prepare(*stored)
        self.register_buffer("qdata", qdata)
        self.register_buffer("scale", scale)
        self.register_buffer("scale_2", weight.qparams.scale_2)
        self.bias = layer.bias
        fused = layer.input_quantizer if kernel.use.input_format is not None else None
        known = (fused.amax, fused.outer_amax) if isinstance(fused, TensorQuantizer) else (None, None)
        for name, amax in zip(("input_amax", "input_outer_amax"), known, strict=True):
            self.register_buffer(name, None if amax is None else amax.clone())  # siblings have one: each its own
        self.input_quantizer = layer.input_quantizer if fused is None else nn.Identity()
        self.output_quantizer = layer.output_quantizer
        self.kernel = kernel
        self.siblings: Siblings | None = None
        self.place = 0
        self.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """
        Raises:
            StateError: the input is on another device than the weight.
        """
        if not torch.is_grad_enabled():  # asking is cheaper than turning it off
            return self._product(input)
        with torch.no_grad():
            return self._product(input)

    def _product(self, input: Tensor) -> Tensor:
        y = None if self.siblings is None else self.siblings.part(self.place, input)
        if y is None:
            if input.device != self.qdata.device:
                raise StateError(
                    f"a packed layer has its weight on {self.qdata.device} and was given an input on "
                    f"{input.device}: move the model or the input"
                )
            x = self.input_quantizer(input).reshape(-1, self.in_features)
            y = self.kernel.kernel.run(
                x, self.qdata, self.scale, self.scale_2, self.input_amax, self.input_outer_amax, self.bias,
                self.out_features, self.kernel.key, self.kernel.input_key,
            )  # fmt: skip
        output: Tensor = self.output_quantizer(y.view(*input.shape[:-1], self.out_features))
        return output

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if self.siblings is not None:
            self.siblings.compare()

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.kernel}"
