"""`local_hessian` and the clipping of `awq` choose scales by what they cost the outputs."""

import pytest
import torch

from mtcore.calibration import as_forward_loop, builtin_algorithms, resolve_algorithms, run_algorithms
from mtcore.errors import CalibrationError
from mtcore.plan import make_plan
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze

FORMATS = ["nvfp4", "int4_b32", "int8_row"]
STEPS = [
    AlgorithmStep("local_hessian"),
    AlgorithmStep("local_hessian", {"cost": "mse"}),
    AlgorithmStep("awq", {"variant": "clip"}),
]


@pytest.fixture
def data():
    """Inputs whose first four features are thirty times the others."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.ones(32)
    sizes[:4] = 30
    return [torch.randn(64, 32, generator=generator) * sizes for _ in range(3)]


@pytest.fixture
def calibrate(batch, specs, make_config):
    def run(model, fmt, data, *steps):
        plan = make_plan(model, make_config({"*weight_quantizer": fmt}), specs, analyze(model, batch))
        converted, journal = convert(model, plan, specs)
        resolved = resolve_algorithms(steps, {spec.name: spec for spec in builtin_algorithms()})
        loop = None if data is None else as_forward_loop(data)
        run_algorithms(converted, plan, resolved, loop, journal.parameters)
        return converted, journal

    return run


@pytest.fixture
def layer():
    torch.manual_seed(4)
    return torch.nn.Sequential(torch.nn.Linear(32, 48, bias=False))


@torch.no_grad()
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.method} {dict(step.options)}")
def test_outputs_of_one_layer_lose_no_more_than_with_max(calibrate, layer, data, fmt, step):
    wanted = [layer(x) for x in data]

    def error(step):
        quantized, journal = calibrate(layer, fmt, data, step)
        found = sum(float((quantized(x) - y).square().sum()) for x, y in zip(data, wanted, strict=True))
        journal.undo()
        return found

    assert error(step) < error(AlgorithmStep("max"))


@torch.no_grad()
@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.method} {dict(step.options)}")
def test_weights_stay_as_they_are(calibrate, model, data, step):
    before = {name: value.clone() for name, value in model.named_parameters()}
    quantized, _ = calibrate(model, "nvfp4", data, step)
    for name, value in quantized.named_parameters():
        assert torch.equal(value, before[name])


@torch.no_grad()
def test_clipping_never_widens_a_block(calibrate, model, data):
    quantized, _ = calibrate(model, "int4_b32", data, AlgorithmStep("awq", {"variant": "clip", "least": 0.7}))
    layer = quantized[0].gate
    ranges = layer.weight.abs().amax(1, keepdim=True)
    # the candidates are multiples of the range between 0.7 and 1; 1e-6 is above their rounding in fp32
    assert bool((layer.weight_quantizer.amax <= ranges).all())
    assert bool((layer.weight_quantizer.amax >= 0.7 * ranges * (1 - 1e-6)).all())


@torch.no_grad()
def test_the_full_variant_scales_and_clips(calibrate, model, data):
    before = model[0].norm.weight.clone()
    quantized, _ = calibrate(model, "int4_b32", data, AlgorithmStep("awq", {"variant": "full"}))
    assert not torch.equal(quantized[0].norm.weight, before)
    assert all(layer.weight_quantizer.amax is not None for layer in (quantized[0].gate, quantized[0].down))


def test_a_weight_that_is_scaled_before_rounding_is_refused_by_name(model, batch, data, specs, make_config):
    plan = make_plan(model, make_config({"*weight_quantizer": "nvfp4"}), specs, analyze(model, batch))
    converted, _ = convert(model, plan, specs)
    converted[0].up.weight_quantizer.pre_quant_scale = torch.full((32,), 2.0)
    steps = resolve_algorithms([AlgorithmStep("local_hessian")], {s.name: s for s in builtin_algorithms()})
    with pytest.raises(CalibrationError, match=r"local_hessian rounds weights as they are, but 0\.up\.weight"):
        run_algorithms(converted, plan, steps, as_forward_loop(data))
