"""Data in every form that users have becomes one loop; modes and gradients are put back."""

import pytest
import torch
from torch import nn

from mtcore.calibration import as_forward_loop, calibration_mode
from mtcore.errors import CalibrationError


class Spy(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, *args, **kwargs):
        self.calls.append((args, kwargs))


@pytest.mark.parametrize(
    ("batch", "call"),
    [
        (7, ((7,), {})),
        ((1, 2), ((1, 2), {})),
        ([1, 2], ((1, 2), {})),
        ({"x": 1}, ((), {"x": 1})),
    ],
)
def test_a_batch_is_passed_as_a_data_loader_means_it(batch, call):
    spy = Spy()
    as_forward_loop([batch])(spy)
    assert spy.calls == [call]


def test_a_function_is_taken_as_it_is():
    def loop(model):
        model(1)

    assert as_forward_loop(loop) is loop


def test_each_batch_is_reported_after_its_forward():
    seen = []
    as_forward_loop([1, 2], on_batch=seen.append)(Spy())
    assert seen == [1, 2]


def test_an_empty_loader_is_an_error():
    with pytest.raises(CalibrationError, match="held no batch"):
        as_forward_loop([])(Spy())


def test_something_else_is_an_error_at_once():
    with pytest.raises(CalibrationError, match="is a int"):
        as_forward_loop(3)


def test_modes_are_put_back_also_after_an_error():
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout()).train()
    model[1].eval()
    with pytest.raises(ValueError, match="inside"), calibration_mode(model):  # noqa: PT012
        assert not model.training
        assert not torch.is_grad_enabled()
        raise ValueError("inside")
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert torch.is_grad_enabled()
