"""Twins share everything with the original, and folding changes no output."""

import torch
from torch import nn

from mtcore.nn import QuantLinear, TensorQuantizer


def twin_of(linear: nn.Linear, fmt) -> QuantLinear:
    quantizers = {
        "weight": TensorQuantizer(fmt, "static", channel_axis=0),
        "input": TensorQuantizer(fmt, "dynamic"),
        "output": nn.Identity(),
    }
    return QuantLinear.from_original(linear, quantizers)


def test_a_twin_holds_the_very_parameters_buffers_and_hooks(formats):
    linear = nn.Linear(16, 4)
    linear.register_buffer("extra", torch.ones(1))
    called = []
    linear.register_forward_hook(lambda *_: called.append(1))
    twin = twin_of(linear, formats["nvfp4"])
    assert twin.weight is linear.weight
    assert twin.extra is linear.extra
    twin(torch.randn(2, 16))
    assert called == [1]
    assert isinstance(twin, nn.Linear)


def test_making_a_twin_leaves_the_original_as_it_was(formats):
    linear = nn.Linear(16, 4)
    before = dict(linear.__dict__), list(linear._modules)
    twin_of(linear, formats["nvfp4"])
    assert (dict(linear.__dict__), list(linear._modules)) == before


def test_the_forward_is_a_linear_of_quantized_input_and_weight(formats):
    twin = twin_of(nn.Linear(16, 4), formats["fp8"])
    x = torch.randn(2, 16)
    expected = nn.functional.linear(twin.input_quantizer(x), twin.weight_quantizer(twin.weight), twin.bias)
    assert torch.equal(twin(x), expected)


def test_folding_weights_changes_no_output_and_frees_the_forward_of_quantizing_them(formats):
    twin = twin_of(nn.Linear(16, 4).bfloat16(), formats["nvfp4"])
    x = torch.randn(2, 16).bfloat16()
    before = twin(x)
    twin.fold_weights()
    assert not twin.weight_quantizer.enabled
    assert torch.equal(twin(x), before)
