"""`smoothquant` and `awq` scale through folds, help where channels differ, and can be undone."""

import pytest
import torch

from mtcore.calibration import as_forward_loop, builtin_algorithms, resolve_algorithms, run_algorithms
from mtcore.errors import CalibrationError
from mtcore.plan import make_plan
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze

W8A8 = {"*weight_quantizer": "int8_row", "*input_quantizer": "int8_row", "2.*": None}
STEPS = [
    [AlgorithmStep("smoothquant", {"alpha": 0.5})],
    [AlgorithmStep("awq", {"sample": 64})],
    [AlgorithmStep("awq", {"judge": "inputs"}), AlgorithmStep("gptq")],
]


@pytest.fixture
def uneven(model):
    """The toy model with two channels of each norm 50 times larger than the rest."""
    with torch.no_grad():
        for block in (model[0], model[1]):
            block.norm.weight[3:5] *= 50
    return model


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(64, 32, generator=generator) for _ in range(3)]


@pytest.fixture
def calibrate(uneven, batch, specs, make_config):
    def run(rules, steps, data):
        plan = make_plan(uneven, make_config(rules), specs, analyze(uneven, batch))
        converted, journal = convert(uneven, plan, specs)
        resolved = resolve_algorithms(steps, {spec.name: spec for spec in builtin_algorithms()})
        loop = None if data is None else as_forward_loop(data)
        run_algorithms(converted, plan, resolved, loop, journal.parameters)
        return converted, journal

    return run


def error_of(model, wanted, data):
    return sum(float((model(x) - y).square().sum()) for x, y in zip(data, wanted, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: "+".join(step.method for step in steps))
def test_uneven_channels_lose_less_than_with_max(calibrate, uneven, data, steps):
    wanted = [uneven(x) for x in data]
    plain, journal = calibrate(W8A8, [AlgorithmStep("max")], data)
    before = error_of(plain, wanted, data)
    journal.undo()
    scaled, _ = calibrate(W8A8, steps, data)
    assert error_of(scaled, wanted, data) < 0.7 * before


@torch.no_grad()
@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: "+".join(step.method for step in steps))
def test_undo_gives_the_original_outputs_bit_for_bit(calibrate, uneven, data, steps):
    before = uneven(data[0])
    _, journal = calibrate(W8A8, steps, data)
    journal.undo()
    assert torch.equal(uneven(data[0]), before)


@torch.no_grad()
def test_scaled_norms_and_weights_belong_together(calibrate, uneven, data):
    norm, gate = uneven[0].norm.weight.clone(), uneven[0].gate.weight.clone()
    scaled, _ = calibrate(W8A8, STEPS[0], data)
    factors = norm / scaled[0].norm.weight
    assert factors[3:5].min() > factors[5:].max()
    assert torch.allclose(scaled[0].gate.weight, gate * factors, rtol=1e-5)


@pytest.mark.parametrize("method", ["smoothquant", "awq"])
def test_missing_data_is_a_clear_error(calibrate, method):
    with pytest.raises(CalibrationError, match="needs calibration data"):
        calibrate(W8A8, [AlgorithmStep(method)], None)


@pytest.mark.parametrize("method", ["smoothquant", "awq"])
def test_infinite_inputs_are_refused_with_the_layers_name(calibrate, data, method):
    data[1][0] = torch.inf
    with pytest.raises(CalibrationError, match=r"NaN or infinite values, first in 0\.gate\.input"):
        calibrate(W8A8, [AlgorithmStep(method)], data)


def test_smoothquant_refuses_weights_that_are_not_finite(calibrate, uneven, data):
    with torch.no_grad():
        uneven[1].gate.weight[0, 0] = torch.inf
    only = {"1.gate.weight_quantizer": "int8_row", "1.gate.input_quantizer": "int8_row"}  # and nothing behind it
    with pytest.raises(
        CalibrationError, match="smoothquant: weights of linear layers or experts hold NaN or infinite values"
    ):
        calibrate(only, [AlgorithmStep("smoothquant")], data)
