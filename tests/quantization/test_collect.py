"""The artifact holds codes for what was planned and every other tensor once."""

import pytest
import torch
from torch import nn

from mtcore.calibration import as_forward_loop, resolve_algorithms, run_algorithms
from mtcore.calibration.algorithms.max import MAX
from mtcore.errors import StateError
from mtcore.numerics import dequantize
from mtcore.plan import make_plan
from mtcore.quantization.collect import collect_artifact
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep

RULES = {"*weight_quantizer": "nvfp4", "*input_quantizer": "fp8"}


@pytest.fixture
def plan(model, specs, make_config):
    return make_plan(model, make_config(RULES), specs)


@pytest.fixture
def artifact(model, plan, batch, specs):
    convert(model, plan, specs)
    run_algorithms(model, plan, resolve_algorithms([AlgorithmStep("max")], {"max": MAX}), as_forward_loop([batch]))
    return collect_artifact(model, plan)


def test_codes_decode_to_the_weights_that_the_fake_quantized_forward_uses(artifact, model):
    for name, module in artifact.modules.items():
        layer = model.get_submodule(name)
        assert torch.equal(dequantize(module.weights["weight"]), layer.weight_quantizer(layer.weight))


def test_static_activations_carry_their_scale(artifact, model):
    quantizer = model[0].down.input_quantizer
    stored = artifact.modules["0.down"].activations["input"]
    assert torch.equal(stored.scale, quantizer.amax / 448)


def test_every_other_tensor_is_there_once_and_no_quantizer_buffer_is(artifact, model):
    assert set(artifact.tensors) == {
        *(f"{i}.norm.{p}" for i in range(2) for p in ("weight", "bias")),
        *(f"{i}.{layer}.bias" for i in range(2) for layer in ("up", "down")),
        "2.bias",
    }


def test_tied_tensors_stand_once(specs, make_config):
    model = nn.ModuleDict(
        {"embed": nn.Embedding(8, 16), "body": nn.Linear(16, 16), "head": nn.Linear(16, 8, False)}
    )
    model["head"].weight = model["embed"].weight
    plan = make_plan(model, make_config({"*weight_quantizer": "fp8"}, max_unquantized=1.0), specs)
    convert(model, plan, specs)
    artifact = collect_artifact(model, plan)
    assert artifact.tied == {"head.weight": "embed.weight"}
    assert "head.weight" not in artifact.tensors


def test_a_model_that_was_not_converted_is_refused(model, plan):
    with pytest.raises(StateError, match=r"0\.gate: planned as quantized"):
        collect_artifact(model, plan)
