"""Rules of elementwise operations: how a parameter is laid out by what it is added to."""

from __future__ import annotations

import torch
from torch import nn

from mtcore.trace import analyze, verify


class HeadBias(nn.Module):
    """A bias [heads, width] is added to queries of heads, as in relative attention."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = (nn.Parameter(torch.randn(6, 2, 4)) for _ in range(2))
        self.bias = nn.Parameter(torch.randn(2, 4))

    def forward(self, x):
        q, k = (torch.einsum("tc,cnd->tnd", x, w) for w in (self.q, self.k))
        return torch.einsum("tnd,snd->nts", q + self.bias, k).softmax(-1)


class Places(nn.Module):
    """A table of places is added to channels that are the same at every place."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 4, bias=False), nn.Linear(4, 3)
        self.table = nn.Parameter(torch.randn(5, 4))

    def forward(self, x):
        return self.down(self.up(x) + self.table)


def test_a_bias_of_two_axes_scales_element_by_element_with_heads_and_widths():
    torch.manual_seed(0)
    model, inputs = HeadBias(), {"x": torch.randn(5, 6)}
    report = analyze(model, inputs)
    (group,) = report.folds
    assert group.size == 8
    assert {(s.parameter, s.axes) for s in (*group.up, *group.down)} == {
        ("q", (1, 2)),
        ("bias", (0, 1)),
        ("k", (1, 2)),
    }
    assert verify(model, report, inputs).report.folds == report.folds


def test_a_table_of_places_has_no_scale_for_every_place_and_channel():
    torch.manual_seed(0)
    model, inputs = Places(), {"x": torch.randn(5, 6)}
    report = analyze(model, inputs)
    roles = {s.axes for g in report.folds for s in (*g.up, *g.down) if s.parameter == "table"}
    assert (0, 1) not in roles
    assert report.folds
    assert verify(model, report, inputs).report.folds == report.folds
