"""A search on a model in memory: its recipe quantizes the model, which was left as it is."""

import pytest
import torch
import yaml
from torch import nn

import mtcore
from mtcore.errors import CalibrationError
from mtcore.opt import AS_IT_IS
from mtcore.plugins import Registry
from mtcore.quantization import search_model

REGISTRY = Registry.load(discover=False)


def test_the_recipe_quantizes_the_model_as_it_was_chosen(model, batch):
    before = model(batch)
    found = search_model(model, ["nvfp4", "fp8"], [batch], registry=REGISTRY)
    assert torch.equal(model(batch), before)
    solution = found.searcher.solve(bits=7)
    assert len(set(solution.chosen)) > 1
    mtcore.quantize(model, yaml.safe_load(found.recipe(solution)), [batch], registry=REGISTRY)
    for decision, choice in zip(solution.decisions, solution.chosen, strict=True):
        for name in decision.modules:
            quantizer = getattr(model.get_submodule(name), "weight_quantizer", None)
            assert (AS_IT_IS if quantizer is None else quantizer.format.name) == choice


def test_a_loss_of_ones_own_serves_searchers_with_gradients(model, batch):
    def loss(output, batch):
        return output.square().sum(), len(batch)

    found = search_model(model, ["fp8"], [batch], loss=loss, score="fisher", registry=REGISTRY)
    assert all(score["fp8"] > 0 for score in found.searcher.scores.values())


def test_layers_whose_blocks_do_not_fit_have_the_other_choices():
    model = nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 8))
    found = search_model(model, ["nvfp4", "fp8"], [torch.randn(4, 32)], registry=REGISTRY)
    first, narrow = found.searcher.decisions
    assert set(first.bits) == {AS_IT_IS, "nvfp4", "fp8"}
    assert set(narrow.bits) == {AS_IT_IS, "fp8"}
    assert found.searcher.least().chosen == ("nvfp4", "fp8")


def test_models_in_training_stay_in_training(model, batch):
    model.train()
    search_model(model, ["fp8"], [batch], registry=REGISTRY)
    assert all(module.training for module in model.modules())


def test_no_data_is_an_error(model):
    with pytest.raises(CalibrationError, match="held no batch"):
        search_model(model, ["fp8"], iter(()), registry=REGISTRY)
