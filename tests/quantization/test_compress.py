"""compress: the same outputs from codes and scales, no float weight left, and clear words where a layer stays."""

import copy
import logging

import pytest
import torch
from torch import nn

from mtcore.backends import KernelSpec, reference
from mtcore.errors import StateError
from mtcore.hookspecs import hookimpl
from mtcore.nn import PackedLinear, QuantLinear
from mtcore.plugins import Registry
from mtcore.quantization import compress, is_quantized, packed_kernels, quantize

RULES = [
    {"*weight_quantizer": "nvfp4", "*input_quantizer": "nvfp4"},
    {"*weight_quantizer": "fp8_row", "*input_quantizer": "fp8_row"},
    {"*weight_quantizer": "fp8", "*input_quantizer": "fp8"},
    {"*weight_quantizer": "int8_row", "*input_quantizer": "int8"},
    {"*weight_quantizer": "int8_row_full"},
    {"*weight_quantizer": "fp8_e5m2_row", "*input_quantizer": "nvfp4", "*output_quantizer": "fp8"},
]


@pytest.fixture
def registry():
    return Registry.load(discover=False)


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(rules.values()))
def test_a_compressed_model_gives_the_outputs_of_the_quantized_one(model, batch, make_config, registry, rules):
    quantize(model, make_config(rules), [batch], registry=registry)
    expected = model(batch)
    assert compress(model, registry=registry) is model
    assert torch.equal(model(batch), expected)
    assert not any(isinstance(module, QuantLinear) for module in model.modules())
    assert not is_quantized(model)


def test_no_float_weight_is_left_and_the_buffers_are_codes_and_scales(model, batch, make_config, registry):
    quantize(model, make_config({"*weight_quantizer": "nvfp4"}), [batch], registry=registry)
    before = sum(p.numel() for p in model.parameters())
    compress(model, registry=registry)
    layer = model[0].gate
    assert [(name, t.dtype) for name, t in layer.named_buffers()] == [
        ("qdata", torch.uint8),
        ("scale", torch.float8_e4m3fn),
        ("scale_2", torch.float32),
    ]
    assert sum(p.numel() for p in model.parameters()) < before / 4
    assert "linear nvfp4: torch.linear (cpu)" in str(layer)


def test_an_input_on_another_device_than_the_weight_is_refused(model, batch, make_config, registry):
    compress(
        quantize(model, make_config({"*weight_quantizer": "fp8"}), [batch], registry=registry), registry=registry
    )
    layer = model[0].gate
    with pytest.raises(StateError, match="weight on cpu and was given an input on meta"):
        layer(torch.empty(2, layer.in_features, device="meta"))


def test_a_root_that_is_a_layer_is_replaced(make_config, registry):
    x = torch.randn(3, 32)
    root = quantize(nn.Linear(32, 8), make_config({"*weight_quantizer": "fp8"}), registry=registry)
    expected = root(x)
    packed = compress(root, registry=registry)
    assert isinstance(packed, PackedLinear)
    assert torch.equal(packed(x), expected)


def test_inputs_of_any_shape_and_of_no_tokens_are_taken(make_config, registry):
    root = quantize(nn.Linear(32, 8), make_config({"*weight_quantizer": "fp8"}), registry=registry)
    packed = compress(root, registry=registry)
    for shape in ((32,), (2, 3, 32), (0, 32)):
        assert packed(torch.randn(shape)).shape == (*shape[:-1], 8)


def test_scaled_inputs_are_scaled_before_the_product(make_config, registry):
    root = quantize(nn.Linear(32, 8), make_config({"*weight_quantizer": "nvfp4"}), registry=registry)
    scale = torch.rand(32) + 0.5
    root.weight_quantizer.set_pre_quant_scale(1 / scale)
    x = torch.randn(3, 32)
    expected = root(x)
    assert torch.equal(compress(root, registry=registry)(x), expected)


def test_a_layer_whose_weight_is_not_all_codes_stays_as_it_is(model, batch, make_config, registry, caplog):
    quantize(
        model,
        make_config({"*gate.weight_quantizer": "int4_b32_asym"}, max_unquantized=1.0),
        [batch],
        registry=registry,
    )
    expected = model(batch)
    with caplog.at_level(logging.WARNING, "mtcore"):
        compress(model, registry=registry)
    assert torch.equal(model(batch), expected)
    assert "0.gate stays as it is: its weight is stored with zero points" in caplog.messages


def test_a_model_that_was_not_quantized_is_refused(model):
    with pytest.raises(StateError, match="was not quantized"):
        compress(model)


def test_a_kernel_sees_the_layout_that_it_prepared(model, batch, make_config, caplog):
    def turned(qdata, scale):
        return qdata.flip(0), scale.flip(0)

    def product(x, qdata, scale, *others):
        return reference.linear(x, qdata.flip(0), scale.flip(0), *others)

    class Plugin:
        @hookimpl
        def mtcore_kernels(self):
            yield KernelSpec("turned", "linear", lambda use: None, product, 5, turned)

    registry = Registry.load([Plugin()], discover=False)
    rules = {"*weight_quantizer": "int8_row", "*input_quantizer": "int8_row"}
    quantize(model, make_config(rules), [batch], registry=registry)
    expected = model(batch)
    with caplog.at_level(logging.INFO, "mtcore"):
        compress(model, registry=registry)
    assert torch.equal(model(batch), expected)
    assert "linear int8_row x int8_row: turned (cpu)" in caplog.messages
    assert {choice.kernel.name for choice in packed_kernels(model)} == {"turned"}


def test_why_no_kernel_takes_the_quantized_input_is_said(make_config):
    class Plugin:
        @hookimpl
        def mtcore_kernels(self):
            def takes_plain_inputs(use):
                return None if use.input_format is None else "leaves inputs as they are"

            def takes_both(use):
                return "multiplies nvfp4 with nvfp4" if use.input_format is None else "needs sm_100"

            yield KernelSpec("plain", "linear", takes_plain_inputs, reference.linear, 1)
            yield KernelSpec("both", "linear", takes_both, reference.linear, 2)

    registry = Registry.load([Plugin()], discover=False)
    rules = {"*weight_quantizer": "nvfp4", "*input_quantizer": "nvfp4"}
    root = quantize(nn.Linear(32, 8), make_config(rules), [torch.randn(3, 32)], registry=registry)
    (choice,) = packed_kernels(compress(root, registry=registry))
    assert str(choice) == "linear nvfp4: plain (cpu); both: needs sm_100"


def test_a_compressed_model_can_be_copied_saved_and_compiled(model, batch, make_config, registry, tmp_path):
    quantize(
        model, make_config({"*weight_quantizer": "nvfp4", "*input_quantizer": "fp8"}), [batch], registry=registry
    )
    compress(model, registry=registry)
    expected = model(batch)
    assert torch.equal(copy.deepcopy(model)(batch), expected)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    model.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    torch._dynamo.reset()
    assert torch.equal(torch.compile(model, backend="aot_eager")(batch), expected)
