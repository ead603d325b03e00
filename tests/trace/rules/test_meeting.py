"""Meeting: which channels a sum and a product keep, and what is left out."""

from __future__ import annotations

import torch
from torch import nn

from mtcore.trace import TraceInputs, analyze
from mtcore.trace.channels import SEARCHABLE
from mtcore.trace.removal import check_removal


class Streams(nn.Module):
    """Several copies of a residual stream; each layer writes into them with weights that depend on the token."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        self.begin = nn.Linear(4, 6)
        self.read = nn.Linear(6, 6)
        self.share = nn.Linear(6, 3)
        self.end = nn.Linear(6, 2)

    def forward(self, x):
        h = self.begin(x)[:, None].expand(-1, 3, -1)
        for _ in range(2):
            first = h.sum(1)
            new = self.share(first).sigmoid()[:, :, None] * self.read(first)[:, None]
            h = (h.flatten(1) + new.flatten(1)).view(-1, 3, 6) if self.flat else h + new
        return self.end(h.sum(1))


X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def stream_of(model: nn.Module):
    groups = [g for g in analyze(model, X).symbols if "begin.weight" in g.parameters]
    assert len(groups) == 1
    return groups[0]


def test_several_streams_are_one_group_of_channels():
    torch.manual_seed(0)
    model = Streams(flat=False)
    group = stream_of(model)
    assert (group.size, group.state) == (6, SEARCHABLE)
    assert {"begin.weight", "read.weight", "share.weight", "end.weight"} <= set(group.parameters)
    assert check_removal(model, TraceInputs.of(X), group).outcome == "ok"


def test_streams_that_lie_in_one_axis_are_too():
    group = stream_of(Streams(flat=True))
    assert group.size == 6
    assert "share.bias" not in group.parameters


def test_the_number_of_streams_stays():
    groups = analyze(Streams(flat=False), X).symbols
    assert all(g.state != SEARCHABLE for g in groups if "share.bias" in g.parameters)
