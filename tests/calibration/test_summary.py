"""The summary tells what rounding costs each layer, in the basis in which it was rounded, and orders by it."""

import math

import pytest
import torch

from mtcore.calibration import LayerSummary, as_forward_loop, builtin_algorithms, resolve_algorithms, run_algorithms
from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.summary import CalibrationSummary
from mtcore.plan import make_plan
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze


@pytest.fixture
def summarized(model, specs, make_config):
    def run(rules, *steps, batches=None):
        batch = torch.randn(40, 32, generator=torch.Generator().manual_seed(5))
        plan = make_plan(model, make_config(rules), specs, analyze(model, batch))
        convert(model, plan, specs)
        resolved = resolve_algorithms([AlgorithmStep(s) for s in steps], {s.name: s for s in builtin_algorithms()})
        loop = as_forward_loop([batch]) if batches is None else batches
        return run_algorithms(model, plan, resolved, loop or None, ParameterEdits(), summary=True)

    return run


def test_the_error_of_a_layer_is_that_of_its_rounded_weight_and_input(summarized, model):
    seen, weight = [], model[0].down.weight.detach().clone()
    model[0].down.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    told = summarized({"*weight_quantizer": "int8_row", "*input_quantizer": "int8"}, "max")
    layer = next(layer for layer in told.layers if layer.name == "0.down")
    x, quantized = seen[-1], model[0].down
    rounded = quantized.weight_quantizer(weight)
    noise = (rounded - weight).square().sum() / weight.square().sum()
    assert layer.weight_sqnr == pytest.approx(-10 * math.log10(float(noise)), rel=1e-5)
    wanted = x @ weight.T
    error = (quantized.input_quantizer(x) @ rounded.T - wanted).norm() / wanted.norm()
    assert layer.output_error == pytest.approx(float(error), rel=1e-3)
    assert 0 < layer.weight_error < layer.output_error
    assert layer.clipped == 0


@pytest.mark.parametrize("steps", [("smoothquant",), ("gptq",), ("smoothquant", "gptq")], ids="+".join)
def test_folded_and_rounded_weights_are_compared_with_what_they_were_before_rounding(summarized, steps):
    told = summarized({"*weight_quantizer": "int8_row", "*input_quantizer": "int8"}, *steps)
    for layer in told.layers:
        # 8 bits give some 40 dB, and gptq gives up a part for its outputs; weights in another basis would give
        # 0 dB, and a weight compared with its own rounded values no error at all
        assert 20 < layer.weight_sqnr < 60, layer
        assert 0 < layer.output_error < 0.05, layer


@pytest.mark.parametrize(
    ("steps", "notes"),
    [
        (("smoothquant",), ["smoothquant: smoothed the inputs of"]),
        (("rotate", "awq"), ["rotate: turned", "awq: scaled the inputs of"]),
        (("max",), []),
    ],
)
def test_steps_tell_how_much_of_the_model_they_reached(summarized, steps, notes):
    told = summarized({"*weight_quantizer": "int8_row", "*input_quantizer": "int8"}, *steps)
    assert all(any(note.startswith(start) for note in told.notes) for start in notes)
    assert bool(told.notes) == bool(notes)
    assert CalibrationSummary.from_json(told.to_json()) == told
    assert CalibrationSummary.joined([told, told]).notes == tuple(dict.fromkeys(told.notes))


def test_a_narrow_range_shows_as_clipping(summarized):
    told = summarized({"*weight_quantizer": "int8_row", "*input_quantizer": "int8"}, "mse")
    assert all(layer.clipped is not None for layer in told.layers)
    cut = LayerSummary("x", 30.0, 0.3, 0.01, clipped=0.2)
    assert "cut off" in cut.advice


def test_without_data_the_weights_alone_are_told(summarized):
    told = summarized({"*weight_quantizer": "nvfp4"}, "max", batches=())
    assert told.layers[0].output_error is None
    assert 10 < told.layers[0].weight_sqnr < 40


def test_the_worst_come_first_and_advice_names_what_costs_most():
    good = LayerSummary("good", 40.0, 0.01, 0.01, 0.0)
    inputs = LayerSummary("inputs", 30.0, 0.4, 0.05, 0.0)
    weights = LayerSummary("weights", 10.0, 0.5, 0.45, 0.0)
    broken = LayerSummary("broken", math.nan)
    told = CalibrationSummary((good, inputs, weights, broken))
    assert [layer.name for layer in told.worst(3)] == ["broken", "weights", "inputs"]
    assert good.advice == "fine as it is"
    assert "its input costs most" in inputs.advice
    assert "its weight costs most" in weights.advice
    assert "not finite" in broken.advice
    assert [item["name"] for item in told.to_json()["worst"]] == ["broken", "weights", "inputs", "good"]


def test_weights_of_layers_that_are_not_linear_are_told_by_their_sqnr(specs, make_config):
    model = torch.nn.Sequential(torch.nn.Conv1d(4, 8, 3), torch.nn.Flatten(), torch.nn.Linear(48, 4))
    exact = model[0].weight.detach().clone()
    batch = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(5))
    plan = make_plan(model, make_config({"*weight_quantizer": "int8_row"}), specs, analyze(model, batch))
    convert(model, plan, specs)
    resolved = resolve_algorithms([AlgorithmStep("max")], {s.name: s for s in builtin_algorithms()})
    told = run_algorithms(model, plan, resolved, as_forward_loop([batch]), ParameterEdits(), summary=True)
    assert [(layer.name, layer.linear) for layer in told.layers] == [("2", True), ("0.weight", False)]
    noise = (model[0].weight_quantizer(exact) - exact).square().sum() / exact.square().sum()
    assert told.layers[1].weight_sqnr == pytest.approx(-10 * math.log10(float(noise)), rel=1e-5)
    assert "gptq" not in LayerSummary("x", 10.0, linear=False).advice
    assert "mse or gptq" in LayerSummary("x", 10.0, linear=False, stacked=True).advice
