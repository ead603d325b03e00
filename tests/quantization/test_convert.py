"""Conversion replaces what was planned, all or nothing, and undoes itself to the last object."""

import copy

import pytest
import torch
from torch import nn

from mtcore.errors import PlanError
from mtcore.nn import QuantLinear
from mtcore.plan import make_plan
from mtcore.quantization import convert

RULES = {"*weight_quantizer": "nvfp4", "*input_quantizer": "int8_row"}


def places(model):
    return [(name, id(module)) for name, module in model.named_modules(remove_duplicate=False)]


def test_planned_modules_become_twins_with_the_same_parameters(model, specs, make_config):
    parameters = {name: id(p) for name, p in model.named_parameters()}
    root, _ = convert(model, make_plan(model, make_config(RULES), specs), specs)
    assert root is model
    assert isinstance(model[0].gate, QuantLinear)
    assert type(model[0].norm) is nn.LayerNorm
    assert {name: id(p) for name, p in model.named_parameters()} == parameters


def test_undo_restores_the_very_objects_and_the_outputs_bit_for_bit(model, batch, specs, make_config):
    before, output = places(model), model(batch)
    _, journal = convert(model, make_plan(model, make_config(RULES), specs), specs)
    assert not torch.equal(model(batch), output)
    journal.undo()
    journal.undo()
    assert places(model) == before
    assert torch.equal(model(batch), output)


def test_an_exception_in_the_middle_leaves_nothing_changed(model, specs, make_config, monkeypatch):
    plan = make_plan(model, make_config(RULES), specs)
    before, made = places(model), []
    original = QuantLinear.from_original.__func__

    def fails_late(cls, module, quantizers):
        made.append(module)
        if len(made) == 4:
            raise KeyboardInterrupt
        return original(cls, module, quantizers)

    monkeypatch.setattr(QuantLinear, "from_original", classmethod(fails_late))
    with pytest.raises(KeyboardInterrupt):
        convert(model, plan, specs)
    assert places(model) == before


def test_a_plan_of_another_model_is_refused_by_name_before_anything_changes(model, specs, make_config):
    plan = make_plan(model, make_config(RULES), specs)
    other = nn.Sequential(copy.deepcopy(model[0]), nn.ReLU())
    before = places(other)
    with pytest.raises(PlanError, match=r"1\.gate: the plan quantizes it, but the model has no such module"):
        convert(other, plan, specs)
    assert places(other) == before


def test_a_module_at_two_places_becomes_one_twin(specs, make_config):
    layer = nn.Linear(16, 16)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    _, journal = convert(model, make_plan(model, make_config({"*weight_quantizer": "fp8"}), specs), specs)
    assert model[0] is model[2]
    assert isinstance(model[0], QuantLinear)
    journal.undo()
    assert model[0] is model[2] is layer


def test_a_root_that_is_itself_planned_comes_back_as_its_twin(specs, make_config):
    layer = nn.Linear(16, 16)
    root, _ = convert(layer, make_plan(layer, make_config({"*weight_quantizer": "fp8"}), specs), specs)
    assert isinstance(root, QuantLinear)
    assert root.weight is layer.weight


def test_training_mode_is_kept(model, specs, make_config):
    model.train()
    convert(model, make_plan(model, make_config(RULES), specs), specs)
    assert all(module.training for module in model.modules())
