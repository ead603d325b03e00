"""Parameters are on the device only while they are needed, and are untouched by what happened there."""

import pytest
import torch
from torch import nn

from mtcore.calibration.residency import Residency, pages_dropped_after_use
from mtcore.files import TensorFile, save_tensors


@pytest.fixture
def model(tmp_path):
    """Two bf16 layers whose weights lie in a file; the second has the first one's weight too."""
    weights = {"0.weight": torch.eye(4).bfloat16(), "1.weight": torch.ones(4, 4).bfloat16()}
    save_tensors(tmp_path / "f", weights, weights)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    for name, tensor in TensorFile(tmp_path / "f").items():
        model.get_submodule(name[0]).weight = nn.Parameter(tensor, requires_grad=False)
    return model


@pytest.fixture
def residency(model):
    parts = {"0": [model[0].weight], "1": [model[1].weight, model[0].weight]}
    return Residency(model, parts, torch.device("cpu"))


def test_a_held_part_is_a_wide_copy_and_comes_back(model, residency):
    parameter, place = model[0].weight, model[0].weight.data_ptr()
    with residency.hold(["0"]):
        assert model[0].weight is parameter
        assert parameter.dtype == torch.float32
        assert model[1].weight.dtype == torch.bfloat16
        parameter.fill_(7)
    assert (parameter.dtype, parameter.data_ptr()) == (torch.bfloat16, place)
    assert torch.equal(parameter, torch.eye(4).bfloat16())


def test_a_shared_parameter_stays_until_the_last_part_is_left(model, residency):
    with residency.hold(["1"]):
        with residency.hold(["0"]):
            pass
        assert model[0].weight.dtype == torch.float32
    assert model[0].weight.dtype == torch.bfloat16


def test_on_demand_a_part_is_there_for_its_forward_only_also_when_that_raises(model, residency):
    with residency.on_demand(["0", "1"]):
        assert model(torch.ones(1, 4)).dtype == torch.float32
        assert model[1].weight.dtype == torch.bfloat16
        with pytest.raises(RuntimeError):
            model(torch.ones(1, 5))
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not model[0]._forward_hooks


def test_an_error_puts_everything_back(model, residency):
    with pytest.raises(KeyError), residency.hold(["0", "unknown"]):
        pass
    assert model[0].weight.dtype == torch.bfloat16


def test_sizes_are_those_on_the_device(residency):
    assert residency.size_bytes("1") == 2 * 16 * 4


def test_pages_are_dropped_and_values_stay(model):
    x = torch.ones(1, 4).bfloat16()
    expected = model(x)
    with pages_dropped_after_use(model):
        assert torch.equal(model(x), expected)
    assert torch.equal(model(x), expected)
    assert not model[0]._forward_hooks
