"""`autoround` learns rounding in either scope, after other steps too, writes codes that last, and can be undone."""

import copy

import pytest
import torch

from mtcore.calibration import as_forward_loop, builtin_algorithms, resolve_algorithms, run_algorithms
from mtcore.calibration.algorithms.max import MaxOptions, run_max
from mtcore.calibration.ranks import _CURRENT
from mtcore.calibration.spec import AlgorithmSpec
from mtcore.errors import CalibrationError
from mtcore.plan import make_plan
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze

W4A4 = {"*weight_quantizer": "nvfp4", "*input_quantizer": "nvfp4"}
W4 = {"*weight_quantizer": "int4_b32"}
FP8 = {"*weight_quantizer": "fp8", "*input_quantizer": "fp8"}


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(5)
    mixing = torch.randn(32, 32, generator=generator) / 4 + torch.eye(32)
    return [torch.randn(64, 32, generator=generator) @ mixing for _ in range(4)]


@pytest.fixture
def calibrate(model, batch, specs, make_config):
    def run(rules, data, *steps, extra=None):
        plan = make_plan(model, make_config(rules), specs, analyze(model, batch))
        converted, journal = convert(model, plan, specs)
        known = {spec.name: spec for spec in (*builtin_algorithms(), *([extra] if extra else []))}
        resolved = resolve_algorithms(steps, known)
        loop = None if data is None else as_forward_loop(data)
        run_algorithms(converted, plan, resolved, loop, journal.parameters)
        return converted, journal

    return run


def learn(**options):
    return AlgorithmStep("autoround", {"steps": 40, **options})


@torch.no_grad()
def error_of(model, wanted, data):
    return sum(float((model(x) - y).square().sum()) for x, y in zip(data, wanted, strict=True))


@pytest.mark.parametrize("rules", [W4, W4A4, FP8], ids=["W4", "W4A4", "FP8"])
@pytest.mark.parametrize("options", [{}, {"scope": "model"}, {"norms": 0.02}], ids=str)
def test_the_models_outputs_are_closer_than_with_max(calibrate, model, data, rules, options):
    with torch.no_grad():
        wanted = [model(x) for x in data]
    quantized, journal = calibrate(rules, data, AlgorithmStep("max"))
    plain = error_of(quantized, wanted, data)
    journal.undo()
    quantized, _ = calibrate(rules, data, learn(**options))
    assert error_of(quantized, wanted, data) < plain


def spoil(run, options):
    """A step that changes what the model computes."""
    run_max(run, options)
    for parameter in run.model.parameters():
        if parameter.dim() == 2:
            run.edits.set(parameter, parameter * 1.1)


@pytest.mark.parametrize("scope", ["blocks", "model"])
def test_it_aims_at_the_outputs_before_any_step_of_the_recipe(calibrate, model, data, scope):
    with torch.no_grad():
        wanted = [model(x) for x in data]
    before_it = AlgorithmSpec("spoil", "spoil", MaxOptions, lambda plan: False, spoil)
    quantized, journal = calibrate(W4, data, AlgorithmStep("spoil"), extra=before_it)
    before = error_of(quantized, wanted, data)
    journal.undo()
    learned = learn(scope=scope, reach=2.0)
    quantized, _ = calibrate(W4, data, AlgorithmStep("spoil"), learned, extra=before_it)
    assert error_of(quantized, wanted, data) < 0.8 * before


@pytest.mark.parametrize("scope", ["blocks", "model"])
def test_weights_that_a_step_has_rounded_start_from_what_they_were(calibrate, model, data, scope):
    """From codes, all weights of one gradient would reach the middle to the next code in the last step together."""
    with torch.no_grad():
        wanted = [model(x) for x in data]
    quantized, journal = calibrate(W4, data, AlgorithmStep("max"))
    plain = error_of(quantized, wanted, data)
    journal.undo()
    quantized, _ = calibrate(W4, data, AlgorithmStep("gptq"), learn(scope=scope, direction="signed"))
    assert error_of(quantized, wanted, data) < plain


@torch.no_grad()
def test_no_weight_moves_farther_than_its_reach_and_half_a_code(calibrate, model, data):
    before = model[0].gate.weight.clone()
    quantized, _ = calibrate(W4, data, learn(reach=0.25, scales="max"))
    layer = quantized[0].gate
    distance = layer.weight_quantizer.qparams(layer.weight).multiplier().repeat_interleave(32, dim=1)
    # rounding adds at most half a distance to what was learned; 1 % is far above the roundings of fp32
    assert bool(((layer.weight - before).abs() <= (0.25 + 0.5) * distance * 1.01).all())


@torch.no_grad()
def test_quantizing_the_written_weights_gives_the_written_values(calibrate, data):
    quantized, _ = calibrate(W4A4, data, learn())
    for name in ("gate", "up", "down"):
        layer = quantized[0].get_submodule(name)
        assert torch.equal(layer.weight_quantizer(layer.weight), layer.weight)


@torch.no_grad()
@pytest.mark.parametrize("norms", [0.0, 0.05])
def test_norms_move_only_if_they_may(calibrate, model, data, norms):
    before = model[0].norm.weight.clone()
    quantized, _ = calibrate(W4A4, data, learn(norms=norms))
    assert torch.equal(quantized[0].norm.weight, before) == (norms == 0)


@torch.no_grad()
def test_undo_puts_the_original_weights_back(calibrate, model, data, batch):
    before = model(batch)
    _, journal = calibrate(W4, data, learn(norms=0.05))
    journal.undo()
    assert torch.equal(model(batch), before)


def test_parameters_get_their_gradient_flags_back(calibrate, model, data):
    model[0].gate.weight.requires_grad_(False)
    calibrate(W4, data, learn())
    assert not model[0].gate.weight.requires_grad
    assert model[0].up.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_without_data_it_says_what_to_give(calibrate):
    with pytest.raises(CalibrationError, match="autoround needs calibration data"):
        calibrate(W4, None, learn())


@pytest.mark.parametrize("scope", ["blocks", "model"])
def test_bad_data_is_refused_with_the_place(calibrate, data, scope):
    data[1][0, 0] = torch.nan
    with pytest.raises(CalibrationError, match="hold NaN or infinite values"):
        calibrate(W4, data, learn(scope=scope))


def test_ranks_learn_one_model_from_the_data_of_all(on_ranks, model, batch, data, specs, make_config):
    plan = make_plan(model, make_config(W4), specs, analyze(model, batch))
    known = {spec.name: spec for spec in builtin_algorithms()}

    def work(ranks):
        _CURRENT.set(ranks)  # of this thread alone
        converted, _ = convert(copy.deepcopy(model), plan, specs)
        loop = as_forward_loop(ranks.share(data))
        run_algorithms(converted, plan, resolve_algorithms([learn()], known), loop)
        return converted[0].gate.weight.detach()

    first, second = on_ranks(2, work)
    assert torch.equal(first, second)
    assert not torch.equal(first, model[0].gate.weight)
