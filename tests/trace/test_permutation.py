"""Channels change places in every parameter at once: outputs stay, and a wrong channel map is caught."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from mtcore.errors import StateError
from mtcore.trace import Proof, analyze, proof_steps, verify


class Fused(nn.Module):
    """Gate and up in one parameter, one behind the other or in turn."""

    def __init__(self, interleaved):
        super().__init__()
        self.both, self.down = nn.Linear(4, 12), nn.Linear(6, 4)
        self.interleaved = interleaved

    def forward(self, x):
        both = self.both(x)
        gate, up = (both[..., ::2], both[..., 1::2]) if self.interleaved else both.chunk(2, -1)
        return self.down(torch.sigmoid(gate) * up)


class Stacked(nn.Module):
    """Matrices of experts in one parameter, all with one width."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(3, 4, 6)), nn.Parameter(torch.randn(3, 6, 4))

    def forward(self, x):
        return (torch.relu(x[..., None, None, :] @ self.up) @ self.down).sum(-3)


def heads():
    return nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0)


def convolutions():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 3))
    nn.init.uniform_(net[1].running_mean)
    nn.init.uniform_(net[1].running_var, 0.5, 2)
    return net


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)), (5, 4)),
    "fused": (lambda: Fused(False), (5, 4)),
    "interleaved": (lambda: Fused(True), (5, 4)),
    "stacked experts": (Stacked, (5, 4)),
    "heads": (heads, (2, 5, 8)),
    "batch norm": (convolutions, (2, 3, 8, 8)),
}


@pytest.fixture(params=MODELS)
def case(request):
    torch.manual_seed(0)
    make, shape = MODELS[request.param]
    model, x = make(), torch.randn(shape)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.eval(), analyze(model, x), x


def exchanged(group, size):
    """The group with two channels of its last member exchanged."""
    last = group.members[-1]
    channels = tuple({0: 1, 1: 0}.get(c, c) for c in last.channels)
    return dataclasses.replace(group, members=(*group.members[:-1], dataclasses.replace(last, channels=channels)))


def test_outputs_stay_when_the_channels_of_every_group_change_places(case):
    model, report, x = case
    proof = verify(model, report, x)
    assert proof.permutations
    assert {check.outcome for check in proof.permutations} == {"ok"}
    assert proof.dropped == ()


def test_a_wrong_channel_map_is_caught_and_the_right_ones_stay(case):
    model, report, x = case
    kind = "symbols" if any(g.state == "searchable" for g in report.symbols) else "blocks"
    groups = list(getattr(report, kind))
    at = next(i for i, g in enumerate(groups) if g.state == "searchable")
    groups[at] = exchanged(groups[at], groups[at].size)
    proof = verify(model, dataclasses.replace(report, **{kind: tuple(groups)}), x)
    assert [c.group for c in proof.permutations if c.outcome == "changed"] == [groups[at].name]
    assert proof.dropped == (f"channels {groups[at].name}: outputs change with their order",)
    assert groups[at] not in getattr(proof.report, kind)


def test_channels_of_unlike_layout_are_not_tried():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
    report = analyze(model)
    (group,) = (g for g in report.symbols if g.state == "searchable")
    first = dataclasses.replace(group.members[0], channels=(0, 0, 1, 2, 3, 4))
    odd = dataclasses.replace(group, members=(first, *group.members[1:]))
    proof = verify(model, dataclasses.replace(report, symbols=(odd,)))
    assert [check.outcome for check in proof.permutations] == ["ragged"]


def test_a_proof_survives_json_and_another_file_is_refused(case):
    model, report, x = case
    proof = verify(model, report, x, removals=True)
    assert Proof.from_dict(json.loads(json.dumps(proof.to_dict()))) == proof
    with pytest.raises(StateError, match="not a proof"):
        Proof.from_dict({})


def test_every_step_is_told(case):
    model, report, x = case
    steps = []
    verify(model, report, x, removals=True, advance=lambda: steps.append(1))
    assert len(steps) == proof_steps(report, removals=True)
