"""Quantized convolutions, plain and transposed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from mtcore.nn.quant_module import QuantModule
from mtcore.nn.spec import QuantModuleSpec, WeightSlot


class _QuantConv(QuantModule, _ConvNd):
    input_quantizer: nn.Module
    weight_quantizer: nn.Module
    output_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        x = self.input_quantizer(input)
        y: Tensor = self.output_quantizer(self._conv_forward(x, self.weight_quantizer(self.weight), self.bias))
        return y


class _QuantConvTranspose(QuantModule, _ConvTransposeNd):
    input_quantizer: nn.Module
    weight_quantizer: nn.Module
    output_quantizer: nn.Module
    function: ClassVar[Callable[..., Tensor]]
    axes: ClassVar[int]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        output_padding: Any = self._output_padding(
            input,
            output_size,
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.kernel_size,  # type: ignore[arg-type]
            self.axes,
            self.dilation,  # type: ignore[arg-type]
        )
        y: Tensor = type(self).function(
            self.input_quantizer(input),
            self.weight_quantizer(self.weight),
            self.bias,
            self.stride,
            self.padding,
            output_padding,
            self.groups,
            self.dilation,
        )
        quantized: Tensor = self.output_quantizer(y)
        return quantized


class QuantConv1d(_QuantConv, nn.Conv1d):
    """nn.Conv1d with the slots input, weight and output; a pixel's channels are the features."""


class QuantConv2d(_QuantConv, nn.Conv2d):
    """nn.Conv2d, as QuantConv1d."""


class QuantConv3d(_QuantConv, nn.Conv3d):
    """nn.Conv3d, as QuantConv1d."""


class QuantConvTranspose1d(_QuantConvTranspose, nn.ConvTranspose1d):
    """nn.ConvTranspose1d with the slots input, weight and output; rows of the weight are output channels."""

    function = F.conv_transpose1d
    axes = 1


class QuantConvTranspose2d(_QuantConvTranspose, nn.ConvTranspose2d):
    """nn.ConvTranspose2d, as QuantConvTranspose1d."""

    function = F.conv_transpose2d
    axes = 2


class QuantConvTranspose3d(_QuantConvTranspose, nn.ConvTranspose3d):
    """nn.ConvTranspose3d, as QuantConvTranspose1d."""

    function = F.conv_transpose3d
    axes = 3


_TRANSPOSED = (WeightSlot(channel_axis=1, grouped=True),)

CONVOLUTIONS = (
    QuantModuleSpec("nn.Conv1d", nn.Conv1d, QuantConv1d, feature_axis=-2),
    QuantModuleSpec("nn.Conv2d", nn.Conv2d, QuantConv2d, feature_axis=-3),
    QuantModuleSpec("nn.Conv3d", nn.Conv3d, QuantConv3d, feature_axis=-4),
    QuantModuleSpec("nn.ConvTranspose1d", nn.ConvTranspose1d, QuantConvTranspose1d, _TRANSPOSED, feature_axis=-2),
    QuantModuleSpec("nn.ConvTranspose2d", nn.ConvTranspose2d, QuantConvTranspose2d, _TRANSPOSED, feature_axis=-3),
    QuantModuleSpec("nn.ConvTranspose3d", nn.ConvTranspose3d, QuantConvTranspose3d, _TRANSPOSED, feature_axis=-4),
)
