"""Routers are known by what their outputs choose, not by a name or type."""

import pytest
import torch
from torch import nn

from mtcore.trace import Router, TraceReport, analyze
from tests.trace.models import Stack


class Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x):
        return self.narrow(self.wide(x).relu())


class Listed(nn.Module):
    """Every row goes through the two best of a list of modules."""

    def __init__(self, count: int = 4, score=torch.softmax) -> None:
        super().__init__()
        self.chooser = nn.Linear(6, count)
        self.parts = nn.ModuleList(Expert() for _ in range(count))
        self._score = score

    def forward(self, x):
        share, chosen = self._score(self.chooser(x), -1).topk(2)
        out = torch.zeros_like(x)
        for number, part in enumerate(self.parts):
            rows, place = torch.where(chosen == number)
            out = out.index_add(0, rows, part(x[rows]) * share[rows, place, None])
        return x + out


class Matrices(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.wide, self.narrow = (nn.Parameter(torch.randn(count, *shape)) for shape in ((6, 8), (8, 6)))

    def forward(self, x, chosen):
        return ((x[:, None] @ self.wide[chosen]).relu() @ self.narrow[chosen])[:, 0]


class Stacked(nn.Module):
    """The same with matrices in a stack."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.chooser, self.parts = nn.Linear(6, count, bias=False), Matrices(count)

    def forward(self, x):
        share, chosen = self.chooser(x).sigmoid().topk(2)
        return x + sum(share[:, i : i + 1] * self.parts(x, chosen[:, i]) for i in range(2))


class Ranked(nn.Module):
    """The best classes of a head, behind as many layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList(Expert() for _ in range(4)), nn.Linear(6, 4)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x).topk(2)


X = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mixture", [Listed, Stacked, lambda: Listed(score=lambda x, _: x.sigmoid())])
def test_what_chooses_among_as_many_experts_is_a_router(mixture):
    found = analyze(Stack(mixture(), mixture()), X)
    assert found.routers == tuple(Router(f"blocks.{i}.chooser", 4, f"blocks.{i}.parts") for i in range(2))


def test_as_many_blocks_as_experts_are_not_taken_for_experts():
    found = analyze(Stack(*(Listed() for _ in range(4))), X)
    assert {router.experts for router in found.routers} == {f"blocks.{i}.parts" for i in range(4)}


def test_a_model_that_is_one_mixture_has_its_router():
    assert analyze(Listed(), torch.randn(16, 6)).routers == (Router("chooser", 4, "parts"),)


def test_without_values_it_is_found_too():
    assert analyze(Stacked(), torch.randn(16, 6), weightless=True).routers == (Router("chooser", 4, "parts"),)


def test_layers_in_front_of_a_ranking_are_no_experts():
    assert analyze(Ranked(), torch.randn(16, 6)).routers == ()


def test_a_stack_of_filters_holds_no_experts():
    class Filtered(Ranked):
        def __init__(self) -> None:
            super().__init__()
            self.filters = nn.Conv1d(1, 4, 3, padding=1)

        def forward(self, x):
            return super().forward(x + self.filters(x[:, None]).mean(1))

    assert analyze(Filtered(), torch.randn(16, 6)).routers == ()


def test_the_report_keeps_its_routers():
    report = analyze(Stack(Listed()), X)
    assert report.routers
    assert TraceReport.from_json(report.to_json()) == report
