"""Kernels of a quantized model: chosen once, given to its quantizers, used for tensors on their device only."""

import copy
import logging

import pytest
import torch

from mtcore.backends import OPERATIONS, KernelSpec, Use, choose_kernel, reference
from mtcore.errors import CalibrationError
from mtcore.hookspecs import hookimpl
from mtcore.nn import TensorQuantizer
from mtcore.nn.rotation import Rotation
from mtcore.plugins import Registry
from mtcore.quantization import calibrate, load, quantize, quantized_of, save
from mtcore.quantization.kernels import assign_kernels

CALLS = []


def counted(*arguments):
    CALLS.append(arguments)
    return reference.fake_quantize(*arguments)


def refuses_integers(use):
    return "only knows floats" if use.format.name.startswith("int") else None


SPEC = KernelSpec("counted", "fake_quantize", refuses_integers, counted)


class Plugin:
    @hookimpl
    def mtcore_kernels(self):
        yield SPEC


@pytest.fixture
def registry():
    CALLS.clear()
    return Registry.load([Plugin()], discover=False)


@pytest.fixture
def config(make_config):
    return make_config({"*weight_quantizer": "fp8_row", "*input_quantizer": "int8"})


def test_a_kernel_gives_the_outputs_of_the_numerics_and_is_recorded(model, batch, registry, config, caplog):
    plain = quantize(copy.deepcopy(model), config, [batch], registry=Registry.load(discover=False))
    with caplog.at_level(logging.INFO, "mtcore"):
        quantized = quantize(model, config, [batch], registry=registry)
    CALLS.clear()
    assert torch.equal(quantized(batch), plain(batch))
    assert len(CALLS) == 7  # one a weight
    lines = sorted(map(str, quantized_of(quantized).kernels))
    assert lines == [
        "fake_quantize fp8_row: counted (cpu)",
        "fake_quantize int8: torch.fake_quantize (cpu); counted: only knows floats",
    ]
    assert set(lines) <= set(caplog.messages)


def test_a_loaded_model_gets_its_kernels_as_well(model, batch, registry, config, tmp_path):
    fresh = copy.deepcopy(model)
    quantized = quantize(model, config, [batch], registry=registry)
    save(quantized, tmp_path / "state")
    restored = load(tmp_path / "state", fresh, registry=registry)
    CALLS.clear()
    assert torch.equal(restored(batch), quantized(batch))
    assert len(CALLS) == 14
    assert quantized_of(restored).kernels == quantized_of(quantized).kernels


def test_a_copy_of_a_quantized_model_keeps_its_kernels(model, batch, registry, config):
    quantized = quantize(model, config, [batch], registry=registry)
    expected = quantized(batch)
    CALLS.clear()
    assert torch.equal(copy.deepcopy(quantized)(batch), expected)
    assert CALLS


def quantizer_with_a_kernel(fmt, mode, device="cpu"):
    quantizer = TensorQuantizer(fmt, mode)
    quantizer.kernel = choose_kernel(Use("fake_quantize", fmt, torch.device(device)), [SPEC])
    return quantizer


def test_a_tensor_on_another_device_does_not_reach_the_kernel(formats):
    CALLS.clear()
    quantizer_with_a_kernel(formats["fp8"], "dynamic", device="meta")(torch.randn(2, 8))
    assert not CALLS


def test_gradients_flow_as_without_a_kernel(formats):
    for gradient in ("straight", "clipped"):
        grads = []
        for kernel in (True, False):
            quantizer = quantizer_with_a_kernel(formats["fp8"], "static")
            quantizer.gradient = gradient
            quantizer.kernel = quantizer.kernel if kernel else None
            quantizer.set_amax(torch.tensor([[1.0]]), None)
            x = torch.linspace(-2, 2, 16, requires_grad=True).view(2, 8)
            x.retain_grad()
            quantizer(x).square().sum().backward()
            grads.append(x.grad)
        assert torch.equal(*grads)


def test_an_uncalibrated_quantizer_says_so_with_a_kernel_too(formats):
    with pytest.raises(CalibrationError, match="has no calibrated amax"):
        quantizer_with_a_kernel(formats["fp8"], "static")(torch.randn(2, 8))


class Statistics:
    """A plugin whose kernels for calibration write down that they were called."""

    def __init__(self):
        self.called = []

    def spec(self, op):
        def run(*arguments):
            self.called.append(op)
            return OPERATIONS[op].reference(*arguments)

        return KernelSpec(f"noted.{op}", op, lambda use: None, run)

    @hookimpl
    def mtcore_kernels(self):
        yield from map(self.spec, ("column_statistics", "add_gram", "sweep_amax", "hadamard", "block_amax"))


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("percentile", {"column_statistics"}),
        ("awq", {"column_statistics"}),
        ({"method": "mse"}, {"sweep_amax", "block_amax"}),
        ({"method": "local_hessian", "cost": "mse"}, {"add_gram", "sweep_amax", "block_amax"}),
    ],
    ids=["percentile", "awq", "mse", "local_hessian"],
)
def test_a_calibration_calls_the_kernels_on_offer_and_finds_the_same_scales(
    model, batch, make_config, algorithm, expected
):
    rules = {"*weight_quantizer": "nvfp4", "*input_quantizer": "fp8"}
    plugin, found = Statistics(), []
    for registry in (Registry.load([plugin], discover=False), Registry.load(discover=False)):
        quantized = quantize(copy.deepcopy(model), make_config(rules), [batch], registry=registry)
        plugin.called.clear()
        calibrate(quantized, algorithm, [batch], registry=registry)
        found.append((quantized.state_dict(), set(plugin.called)))
    assert found[0][1] == expected
    assert not found[1][1]
    assert all(torch.equal(value, found[1][0][name]) for name, value in found[0][0].items())


def test_a_quantizer_that_rotates_gets_its_kernel(formats):
    plugin = Statistics()
    quantizer = TensorQuantizer(formats["fp8"], "dynamic", rotation=Rotation(8, back=True))
    x = torch.randn(4, 16)
    expected = quantizer(x)
    kernels = Registry.load([plugin], discover=False).kernels
    assign_kernels(quantizer, kernels, torch.device("cpu"))
    assert torch.equal(quantizer(x), expected)
    assert plugin.called == ["hadamard", "hadamard"]  # there and back
    learned = x.clone().requires_grad_()
    quantizer(learned).sum().backward()
    assert learned.grad is not None
    assert len(plugin.called) == 2  # gradients flow through the reference
