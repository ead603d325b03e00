"""Quantizers and layers compile into one graph, with the same bits."""

import pytest
import torch
from torch import nn

from mtcore.nn import QuantLinear, Rotation, TensorQuantizer

NAMES = ["fp8", "int8_row", "fp8_128x128", "nvfp4", "mxfp4", "mxfp8_e5m2", "mxint8", "int4_b32_asym", "nf4"]


def compiled(module: nn.Module) -> nn.Module:
    torch._dynamo.reset()
    return torch.compile(module, fullgraph=True, backend="aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "int4_b128_fp8"])
def test_a_quantizer_is_one_graph_forward_and_backward(formats, name):
    quantizer = TensorQuantizer(formats[name], "dynamic")
    x = torch.randn(4, 256, requires_grad=True)
    y = compiled(quantizer)(x)
    assert torch.equal(y, quantizer(x))
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.slow
def test_a_scaled_rotated_shifted_quantizer_with_a_learned_amax_is_one_graph(formats):
    quantizer = TensorQuantizer(formats["nvfp4"], "static", channel_axis=0, rotation=Rotation(12, back=True))
    quantizer.set_pre_quant_scale(torch.rand(48) + 0.5)
    quantizer.set_bias(torch.tensor([0.1]))
    w = torch.randn(4, 48, requires_grad=True)
    quantizer.learn_amax(w)
    y = compiled(quantizer)(w)
    assert torch.equal(y, quantizer(w))
    y.sum().backward()
    assert quantizer.amax.grad is not None


def test_a_linear_layer_is_one_graph(formats):
    quantizers = {
        "weight": TensorQuantizer(formats["nvfp4"], "static", channel_axis=0),
        "input": TensorQuantizer(formats["fp8"], "dynamic"),
        "output": nn.Identity(),
    }
    layer = QuantLinear.from_original(nn.Linear(32, 8), quantizers)
    x = torch.randn(4, 32)
    assert torch.equal(compiled(layer)(x), layer(x))
