"""`max` calibrates every quantizer of a plan, shares what belongs together, and names what is wrong."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mtcore.calibration import as_forward_loop, resolve_algorithms, run_algorithms
from mtcore.calibration.algorithms.max import MAX, needs_data
from mtcore.errors import CalibrationError
from mtcore.numerics import four_over_six_qparams
from mtcore.plan import make_plan, plan_from_dict, plan_to_dict
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze

RULES = {"*weight_quantizer": "nvfp4", "*input_quantizer": "nvfp4"}


@pytest.fixture
def calibrated(model, batch, specs, make_config):
    def run(rules, data, root=model):
        plan = make_plan(root, make_config(rules), specs, analyze(root, batch))
        converted, _ = convert(root, plan, specs)
        steps = resolve_algorithms([AlgorithmStep("max")], {"max": MAX})
        run_algorithms(converted, plan, steps, None if data is None else as_forward_loop(data))
        return converted

    return run


def test_input_scales_are_the_largest_magnitudes_of_the_unquantized_model(calibrated, model, batch):
    seen = []
    handle = model[0].down.register_forward_pre_hook(lambda _, args: seen.append(args[0].abs().max()))
    model(batch), model(2 * batch)
    handle.remove()
    calibrated(RULES, [batch, 2 * batch])
    assert model[0].down.input_quantizer.outer_amax == max(seen)


def test_modules_that_read_one_value_get_one_amax_for_inputs_and_weights(calibrated, model, batch):
    weights = {name: getattr(model[0], name).weight.abs().max() for name in ("gate", "up")}
    calibrated(RULES, [batch])
    gate, up, down = model[0].gate, model[0].up, model[0].down
    assert gate.weight_quantizer.outer_amax == up.weight_quantizer.outer_amax == max(weights.values())
    assert gate.input_quantizer.outer_amax == up.input_quantizer.outer_amax
    assert down.weight_quantizer.outer_amax == down.weight.abs().max()


def test_per_tensor_weights_are_shared_too(calibrated, model, batch):
    calibrated({"*weight_quantizer": "fp8", "*input_quantizer": "fp8"}, [batch])
    assert model[0].gate.weight_quantizer.amax.shape == (1, 1)
    assert torch.equal(model[0].gate.weight_quantizer.amax, model[0].up.weight_quantizer.amax)


@pytest.mark.parametrize("name", ["fp8", "nvfp4"])
def test_a_constant_amax_needs_no_data_and_is_left_alone(name, calibrated, model, batch, specs, make_config):
    config = make_config({"*weight_quantizer": name, "*input_quantizer": name})
    weights, inputs = config.rules
    rules = (weights, replace(inputs, setting=replace(inputs.setting, amax=448.0)))
    plan = make_plan(model, replace(config, rules=rules), specs, analyze(model, batch))
    assert plan_from_dict(plan_to_dict(plan)) == plan
    assert not needs_data(plan)
    converted, _ = convert(model, plan, specs)
    steps = resolve_algorithms([AlgorithmStep("max")], {"max": MAX})
    run_algorithms(converted, plan, steps, None)
    assert torch.isfinite(model(batch)).all()
    run_algorithms(converted, plan, steps, as_forward_loop([1000 * batch]))
    for part in ("gate", "up", "down"):
        quantizer = getattr(model[0], part).input_quantizer
        assert (quantizer.amax if name == "fp8" else quantizer.outer_amax) == 448


def test_dynamic_activations_need_no_data(calibrated, model, batch, specs, make_config):
    rules = {"*weight_quantizer": "int8_row", "*input_quantizer": "int8_row"}
    assert not needs_data(make_plan(model, make_config(rules), specs))
    calibrated(rules, None)
    assert torch.isfinite(model(batch)).all()


def test_missing_data_is_an_error_that_names_the_quantizers(calibrated):
    with pytest.raises(CalibrationError, match=r"7 activations .*0\.gate\.input"):
        calibrated(RULES, None)


def test_a_quantizer_that_saw_no_data_is_an_error(calibrated, specs, make_config, batch):
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.aside = nn.Linear(32, 32), nn.Linear(32, 32)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(CalibrationError, match=r"never reached 1 quantizers \(aside\.input\)"):
        calibrated(RULES, [batch], Aside())


def test_nan_in_the_data_is_an_error_that_names_the_first_tensor(calibrated, batch):
    with pytest.raises(CalibrationError, match=r"first in 0\.gate\.input \(7 tensors"):
        calibrated(RULES, [batch, torch.full_like(batch, torch.nan)])


def test_nan_in_a_weight_is_an_error_that_names_it(calibrated, model, batch):
    model[1].up.weight.data[0, 0] = torch.inf
    with pytest.raises(CalibrationError, match=r"1\.up\.weight: the weight holds NaN or infinite"):
        calibrated({"*weight_quantizer": "nvfp4"}, None)


def test_an_exception_in_the_loop_leaves_quantizers_enabled_and_unobserved(calibrated, model):
    def loop(_):
        raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        calibrated(RULES, loop)
    quantizer = model[0].gate.input_quantizer
    assert quantizer.enabled
    assert quantizer.observer is None


def test_four_over_six_gives_the_scales_of_the_reference_and_a_smaller_error(model, specs, make_config):
    plan = make_plan(model, make_config({"*weight_quantizer": "nvfp4"}), specs)
    convert(model, plan, specs)
    errors = []
    for options in ({}, {"four_over_six": True}):
        steps = resolve_algorithms([AlgorithmStep("max", options)], {"max": MAX})
        run_algorithms(model, plan, steps, None)
        layer = model[0].gate
        errors.append((layer.weight_quantizer(layer.weight) - layer.weight).square().sum())
    reference = four_over_six_qparams(layer.weight.detach(), layer.weight_quantizer.format)
    stored = layer.weight_quantizer.quantize(layer.weight).qparams
    assert torch.equal(stored.scale.view(torch.uint8), reference.scale.view(torch.uint8))
    assert torch.allclose(
        stored.scale_2, reference.scale_2, rtol=2**-23, atol=0
    )  # the same, over one more rounding
    assert errors[1] < errors[0]
