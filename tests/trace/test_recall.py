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


class Squared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 7, bias=False), nn.Linear(7, 5, bias=False)

    def forward(self, x):
        return self.down(self.up(x).relu().square())


def found(model, *shape):
    torch.manual_seed(0)
    inputs = {"x": torch.randn(*shape)}
    report = analyze(model, inputs)
    return report, Symmetries(model, inputs, [n for n, _ in model.named_parameters()], vocabulary=0), inputs


@pytest.mark.parametrize(
    ("model", "shape", "count"),
    [(Grouped(), (2, 7, 8), 8 + 4 + 4), (OnePlus(), (9, 6), 6 + 12), (Routed(), (40, 6), 3 * 8)],
    ids=["grouped queries: norm, q and k, v and o", "one plus weight, relu", "experts of one tensor"],
)
def test_the_engine_has_every_rescaling_that_exists(model, shape, count):
    report, symmetries, _ = found(model, *shape)
    row = compare(symmetries, report.folds)
    assert (row["invariances"], row["engine"], row["wrong"]) == (count, count, [])
    assert row["controls"][0] == row["controls"][1] > 0


def test_a_squared_relu_is_the_known_miss_and_the_oracle_sees_it():
    report, symmetries, _ = found(Squared(), 9, 6)
    row = compare(symmetries, report.folds)
    assert (row["invariances"], row["engine"]) == (7, 0)
    assert row["missed"] == [[["up.weight", "down.weight"], False, 7]]


def test_a_planted_wrong_map_is_rejected_by_the_oracle_and_by_verify():
    model = Grouped()
    report, symmetries, inputs = found(model, 2, 7, 8)
    right = next(g for g in report.folds if "o.weight" in g.parameters)
    wrong = rolled(right)
    assert float(symmetries.change(symmetries.of(right)).max()) < 1e-12
    assert float(symmetries.change(symmetries.of(wrong)).max()) > 1e-3
    planted = type(report)(**{**vars(report), "folds": (right, wrong)})
    assert verify(model, planted, inputs).report.folds == (right,)


def test_a_group_of_which_a_slice_is_left_out_is_rejected():
    _, symmetries, _ = found(OnePlus(), 9, 6)
    half = FoldGroup.of(1, (Slices("up.weight", (0,), (0,), (0,)),), (Slices("down.weight", (1,), (0,), (0,)),))
    assert float(symmetries.change(symmetries.of(half)).max()) > 1e-3  # its bias stays behind
