"""Nothing is missed: fold groups span every rescaling that the null space of the derivatives shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mtcore.trace import FoldGroup, Slices, analyze, verify
from tests.trace.models import Routed

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from recall import compare, rolled
from scale_symmetry import Symmetries


class Grouped(nn.Module):
    """Four heads of queries read two of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(8)
        self.q, self.k, self.v = (
            nn.Linear(8, 8, bias=False),
            nn.Linear(8, 4, bias=False),
            nn.Linear(8, 4, bias=False),
        )
        self.o = nn.Linear(8, 5, bias=False)

    def forward(self, x):
        y = self.norm(x)
        q, k, v = (m(y).unflatten(-1, (-1, 2)).transpose(1, 2) for m in (self.q, self.k, self.v))
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        return self.o(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(-2))


class OnePlus(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6) / 4)
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 5)

    def forward(self, x):
        return self.down(self.up(x.sin() * (1 + self.weight)).relu())


class Dead(OnePlus):
    """One unit that only larger weights wake."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.weight, 0.5)
        with torch.no_grad():
            self.up.bias[3] = -2.5


class Squared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 7, bias=False), nn.Linear(7, 5, bias=False)

    def forward(self, x):
        return self.down(self.up(x).relu().square())


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 3, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5, bias=False)) for _ in range(3)
        )

    def forward(self, x):
        weight, chosen = self.gate(x).softmax(-1).topk(2)
        y = x.new_zeros(len(x), 5)
        for i, expert in enumerate(self.experts):
            row, place = (chosen == i).nonzero(as_tuple=True)
            y = y.index_add(0, row, expert(x[row]) * weight[row, place, None])
        return y


class Running(nn.Module):
    """The mean that is taken off does not scale with the rows above it."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 5)
        self.norm.running_mean.fill_(0.5)
        nn.init.normal_(self.norm.bias)
        self.eval()

    def forward(self, x):
        return self.down(self.norm(self.up(x)).sin())


def found(build, *shape):
    torch.manual_seed(0)
    model = build()
    inputs = {"x": torch.randn(*shape)}
    report = analyze(model, inputs)
    names = [n for n, _ in model.named_parameters()]
    return report, Symmetries(model, inputs, names, vocabulary=0), (model, inputs)


@pytest.mark.parametrize(
    ("build", "shape", "count"),
    [(Grouped, (2, 7, 8), 8 + 4 + 4), (OnePlus, (9, 6), 6 + 12), (Routed, (40, 6), 3 * 8)],
    ids=["grouped queries: norm, q and k, v and o", "one plus weight, relu", "experts of one tensor"],
)
def test_the_engine_has_every_rescaling_that_exists(build, shape, count):
    report, symmetries, _ = found(build, *shape)
    row = compare(symmetries, report.folds)
    assert (row["invariances"], row["engine"], row["wrong"]) == (count, count, [])
    assert row["controls"][0] == row["controls"][1] > 0


def test_experts_in_a_list_of_modules_are_found_too():
    report, symmetries, _ = found(Listed, 40, 6)
    row = compare(symmetries, report.folds)
    assert (row["invariances"], row["engine"], row["wrong"]) == (3 * 8, 3 * 8, [])


def test_a_squared_relu_is_the_known_miss_and_a_power():
    report, symmetries, _ = found(Squared, 9, 6)
    row = compare(symmetries, report.folds)
    assert (row["invariances"], row["engine"], row["powers"]) == (7, 0, 7)
    assert row["local"] == row["shifted"] == row["missed"] == []


def test_what_a_dead_unit_allows_is_no_symmetry_of_the_network():
    report, symmetries, _ = found(Dead, 9, 6)
    row = compare(symmetries, report.folds)
    assert sum(n for _, n in row["local"]) == row["invariances"] - row["engine"] == 1
    assert row["shifted"] == row["missed"] == []
    assert row["powers"] == 0


def test_a_scale_before_running_statistics_needs_a_shift_of_the_bias():
    report, symmetries, _ = found(Running, 9, 6)
    row = compare(symmetries, report.folds)
    assert (row["engine"], sum(n for _, n in row["shifted"])) == (0, 4)
    assert row["local"] == row["missed"] == []


def test_a_rescaling_that_the_engine_does_not_report_is_a_miss():
    _, symmetries, _ = found(OnePlus, 9, 6)
    row = compare(symmetries, ())
    assert sum(n for _, n in row["missed"]) + sum(n for _, n in row["shifted"]) == 6 + 12


def test_a_planted_wrong_map_is_rejected_by_the_oracle_and_by_verify():
    report, symmetries, (model, inputs) = found(Grouped, 2, 7, 8)
    right = next(g for g in report.folds if "o.weight" in g.parameters)
    wrong = rolled(right)
    assert float(symmetries.change(symmetries.of(right)).max()) < 1e-12
    assert float(symmetries.change(symmetries.of(wrong)).max()) > 1e-3
    planted = type(report)(**{**vars(report), "folds": (right, wrong)})
    assert verify(model, planted, inputs).report.folds == (right,)


def test_a_group_of_which_a_slice_is_left_out_is_rejected():
    _, symmetries, _ = found(OnePlus, 9, 6)
    half = FoldGroup.of(1, (Slices("up.weight", (0,), (0,), (0,)),), (Slices("down.weight", (1,), (0,), (0,)),))
    assert float(symmetries.change(symmetries.of(half)).max()) > 1e-3  # its bias stays behind
