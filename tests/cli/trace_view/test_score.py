"""The score: rows of layers, columns of parameters, and the groups that each axis is in."""

import torch
from torch import nn

from mtcore.cli.trace_view.score import make_score, shown_parameters


class Experts(nn.Module):
    """Three alike members of a list that read one value; their results are added."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.LayerNorm(4)
        self.experts = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(3))

    def forward(self, x):
        h = self.norm(x)
        return sum(expert(h) for expert in self.experts)


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.both, self.down = nn.Linear(4, 6, bias=False), nn.Linear(3, 2, bias=False)

    def forward(self, x):
        up, gate = self.both(x).chunk(2, -1)
        return self.down(up * gate.sigmoid())


def test_only_the_first_of_identical_layers_is_looked_at(net, traced):
    trace = traced(net(3))
    shown = shown_parameters(trace.report, trace.shapes)
    assert [name for name in shown if name.startswith("layers.")] == [
        f"layers.0.{part}" for part in ("norm.weight", "norm.bias", "gate.weight", "up.weight", "down.weight")
    ]


def test_a_group_of_identical_layers_is_named_after_all_of_them(net, traced):
    marks = make_score(traced(net(3))).marks
    names = {member.name for mark in marks for member in mark.group.members}
    assert "layers.[0-2].up.weight" in names
    assert not any(name.startswith("layers.0.") for name in names)


def test_a_group_across_layers_is_one_mark_in_every_row(net, traced):
    score = make_score(traced(net(3)))
    (residual,) = score.across
    drawn = [
        row.layer.title
        for row in score.rows
        if any(residual in dict(part.marks["channels"]) for column in row.columns for part in column.parts)
    ]
    assert drawn == ["layers.[0-2]", "outside the layers"]


def test_members_of_a_list_that_are_alike_are_layers_of_their_own(traced):
    score = make_score(traced(Experts()))
    assert [row.layer.title for row in score.rows] == ["experts.[0-2]", "outside the layers"]


def test_an_axis_of_a_fused_projection_is_in_a_group_and_pinned_in_part(traced):
    (row,) = make_score(traced(Fused())).rows
    both = row.columns[0]
    assert both.name == "weight"
    assert both.owner == "both"
    assert [part.axes for part in both.parts] == [(0,), (1,)]
    ((mark, member),) = both.parts[0].marks["fold"]
    assert (mark.group.size, member.share, member.indices) == (3, "3 of 6", "0:3")
    assert (both.parts[0].pin.pinned, both.parts[0].pin.index) == (3, 3)
