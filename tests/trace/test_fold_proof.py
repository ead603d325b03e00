"""Folds are proven on the model itself: wrong ones are found in every dtype, and no bit of a weight changes."""

import dataclasses

import pytest
import torch
from torch import nn

from mtcore.trace import FoldGroup, Slices, TraceInputs, analyze, wrong_folds


class OffsetNorm(nn.Module):
    """x normalised, times 1 + weight."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width) * 0.1)

    def forward(self, x):
        return nn.functional.rms_norm(x, x.shape[-1:]) * (1 + self.weight)


class Mlp(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.norm, self.up, self.down = OffsetNorm(width), nn.Linear(width, 24), nn.Linear(24, width)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.float16], ids=str)
def model(request):
    torch.manual_seed(0)
    return nn.Sequential(*(Mlp() for _ in range(3))).to(request.param)


@pytest.fixture
def inputs(model):
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    return TraceInputs.of(x.to(model[0].up.weight.dtype))


def rolled(group):
    """The same group with its channels below moved on by one."""
    down = [
        dataclasses.replace(side, channels=tuple((c + 1) % group.size for c in side.channels))
        for side in group.down
    ]
    return dataclasses.replace(group, name="rolled", down=tuple(down))


def test_right_folds_stay_also_those_of_a_norm_with_an_offset(model, inputs):
    folds = analyze(model, inputs).folds
    assert any(side.offset for group in folds for side in group.up)
    assert wrong_folds(model, folds, inputs) == []


@pytest.mark.parametrize("saved_bytes", [1, 2**31], ids=["one by one", "all at once"])
def test_a_wrong_channel_map_is_found_among_right_ones(model, inputs, saved_bytes):
    folds = list(analyze(model, inputs).folds)
    folds[3] = rolled(folds[3])
    assert wrong_folds(model, folds, inputs, saved_bytes=saved_bytes) == [folds[3]]


def test_every_weight_is_put_back_bit_for_bit(model, inputs):
    with torch.no_grad():
        model[1].up.weight[0, 0] = 6e-8  # the smallest float16: halves of it would be lost
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folds = analyze(model, inputs).folds
    wrong_folds(model, [rolled(folds[0]), *folds], inputs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_are_put_back_also_when_the_forward_fails(model, inputs):
    rows = Slices("0.up.weight", (0,), (0, 1), (0, 1))
    before = model[0].up.weight.detach().clone()
    first = model[0].up.weight.detach().abs().sum()

    def refuse(module, args):
        if module.up.weight.abs().sum() != first:
            raise ValueError("refused")

    model[0].register_forward_pre_hook(refuse)
    group = FoldGroup("refused", 2, (rows,), ())
    assert wrong_folds(model, [group], inputs) == [group]
    assert torch.equal(model[0].up.weight, before)
