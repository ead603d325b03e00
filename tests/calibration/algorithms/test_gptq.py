"""`gptq` rounds block by block, writes codes that last, and can be undone."""

import pytest
import torch

from mtcore.calibration import as_forward_loop, resolve_algorithms, run_algorithms
from mtcore.calibration.algorithms.gptq import GPTQ
from mtcore.calibration.algorithms.max import MAX
from mtcore.errors import CalibrationError
from mtcore.plan import make_plan
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze

W4A4 = {"*weight_quantizer": "nvfp4", "*input_quantizer": "nvfp4"}
W4 = {"*weight_quantizer": "int4_b32"}


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(5)
    mixing = torch.randn(32, 32, generator=generator) / 4 + torch.eye(32)
    return [torch.randn(64, 32, generator=generator) @ mixing for _ in range(4)]


@pytest.fixture
def calibrate(model, batch, specs, make_config):
    def run(rules, data, method="gptq", **options):
        plan = make_plan(model, make_config(rules), specs, analyze(model, batch))
        converted, journal = convert(model, plan, specs)
        steps = resolve_algorithms([AlgorithmStep(method, options)], {"max": MAX, "gptq": GPTQ})
        loop = None if data is None else as_forward_loop(data)
        run_algorithms(converted, plan, steps, loop, journal.parameters)
        return converted, journal

    return run


def error_of(model, wanted, data):
    return sum(float((model(x) - y).square().sum()) for x, y in zip(data, wanted, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("rules", [W4, W4A4, {"*weight_quantizer": "fp8", "*input_quantizer": "fp8"}])
@pytest.mark.parametrize(
    "options",
    [{}, {"sequential": "blocks"}, {"correct": False}, {"order": "importance", "scales": "max"}, {"passes": 1}],
    ids=str,
)
def test_the_models_outputs_are_closer_than_with_max(calibrate, model, data, rules, options):
    wanted = [model(x) for x in data]
    quantized, journal = calibrate(rules, data, "max")
    plain = error_of(quantized, wanted, data)
    journal.undo()
    quantized, _ = calibrate(rules, data, **options)
    assert error_of(quantized, wanted, data) < plain


@torch.no_grad()
def test_quantizing_the_written_weights_gives_the_written_values(calibrate, data):
    quantized, _ = calibrate(W4A4, data)
    for name in ("gate", "up", "down"):
        layer = quantized[0].get_submodule(name)
        assert torch.equal(layer.weight_quantizer(layer.weight), layer.weight)


@torch.no_grad()
def test_undo_puts_the_original_weights_back(calibrate, model, data, batch):
    before = model(batch)
    weight = model[0].gate.weight
    quantized, journal = calibrate(W4, data)
    assert model[0].gate.weight is weight
    assert not torch.equal(quantized(batch), before)
    journal.undo()
    assert torch.equal(model(batch), before)


@torch.no_grad()
def test_it_is_deterministic(calibrate, model, data, batch):
    first, journal = calibrate(W4A4, data)
    one = first(batch)
    journal.undo()
    second, _ = calibrate(W4A4, data)
    assert torch.equal(second(batch), one)


def test_without_data_it_says_what_to_give(calibrate):
    with pytest.raises(CalibrationError, match="gptq needs calibration data"):
        calibrate(W4, None)


def test_bad_data_is_refused_with_the_layers_name(calibrate, data):
    data[1][0, 0] = torch.nan
    with pytest.raises(CalibrationError, match=r"0\.gate"):
        calibrate(W4, data)


def test_a_data_loop_that_raises_leaves_nothing_behind(calibrate, model, batch):
    def broken(m):
        m(batch)
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        calibrate(W4, broken)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_weight_that_is_scaled_before_rounding_is_refused_by_name(model, batch, data, specs, make_config):
    plan = make_plan(model, make_config(W4), specs, analyze(model, batch))
    converted, journal = convert(model, plan, specs)
    converted[0].up.weight_quantizer.pre_quant_scale = torch.full((32,), 2.0)
    steps = resolve_algorithms([AlgorithmStep("gptq")], {"gptq": GPTQ})
    with pytest.raises(CalibrationError, match=r"0\.up\.weight \(1 in all\) is scaled"):
        run_algorithms(converted, plan, steps, as_forward_loop(data), journal.parameters)
