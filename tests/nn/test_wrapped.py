"""A forward that was wrapped on the instance, as accelerate does: the twin is wrapped too, and undoing keeps it."""

from functools import partial, update_wrapper

import pytest
import torch
from torch import nn

import mtcore
from mtcore.errors import PlanError
from mtcore.nn.wrapped import is_offloaded, is_replaced, is_wrapped

CONFIG = {"rules": [{"weight": "int8_row", "input": "int8"}], "max_unquantized": 1.0}


def wrap(module, seen):
    """What accelerate does to a module: inputs pass a hook first, which finds the module's own forward on it."""

    def outer(module, *args, **kwargs):
        seen.append(type(module).__name__)
        return module._old_forward(*args, **kwargs)

    module._old_forward = module.forward
    module.forward = update_wrapper(partial(outer, module), module.forward)


def model_of():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))


def test_the_twin_of_a_wrapped_layer_quantizes_and_passes_the_wrapper():
    plain, model, seen = model_of(), model_of(), []
    wrap(model[0], seen)
    wrap(model[2], seen)
    batches = [torch.randn(4, 8)]
    expected = mtcore.quantize(plain, CONFIG, batches)(batches[0])
    quantized = mtcore.quantize(model, CONFIG, batches)
    seen.clear()
    assert torch.equal(quantized(batches[0]), expected)
    assert seen == ["QuantLinear", "QuantLinear"]
    undone = mtcore.undo(quantized)
    seen.clear()
    assert torch.equal(undone(batches[0]), mtcore.undo(plain)(batches[0]))
    assert seen == ["Linear", "Linear"]


def test_a_forward_that_was_replaced_is_no_wrapped_one():
    replaced, other = nn.Linear(8, 8), nn.Linear(8, 8)
    replaced.forward = lambda x: x
    wrap(other, [])
    other._old_forward = replaced.forward
    assert is_replaced(replaced)
    assert is_replaced(other)
    assert not is_wrapped(other)
    assert not is_replaced(nn.Linear(2, 2))


def test_offloaded_weights_are_refused_by_name_before_anything_changes():
    model = model_of()
    wrap(model[0], [])
    model[0].to_empty(device="meta")
    assert is_offloaded(model[0])
    assert not is_offloaded(model[2])
    plan = mtcore.quantization.plan_model(model, CONFIG)
    with pytest.raises(PlanError, match="0: the weights are offloaded"):
        mtcore.quantization.apply_plan(model, plan)
    assert type(model[2]) is nn.Linear
