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


class Masked(nn.Module):
    """The best two in turn: the first one is masked by a scatter before the second one is looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.chooser, self.parts = nn.Linear(6, 4, bias=False), Matrices(4)

    def forward(self, x):
        scores = self.chooser(x)
        out = torch.zeros_like(x)
        for _ in range(2):
            _, chosen = scores.max(-1, keepdim=True)
            share = scores.softmax(-1).gather(-1, chosen)
            out = out + share * self.parts(x, chosen[:, 0])
            scores = scores.scatter(-1, chosen, float("-inf"))
        return x + out


class Looped(nn.Module):
    """A single best of a list of modules by sigmoid and argmax, in a loop; a learned number scales its share."""

    def __init__(self) -> None:
        super().__init__()
        self.chooser, self.scale = nn.Linear(6, 4), nn.Parameter(torch.ones(1))
        self.parts = nn.ModuleList(Expert() for _ in range(4))

    def forward(self, x):
        scores = self.chooser(x).sigmoid()
        chosen = scores.argmax(-1)
        share = scores.gather(-1, chosen[:, None]) * self.scale
        out = torch.zeros_like(x)
        for number, part in enumerate(self.parts):
            (rows,) = torch.where(chosen == number)
            out = out.index_add(0, rows, part(x[rows]) * share[rows])
        return x + out


class SharedToo(nn.Module):
    """Two rows of the router weigh experts that all tokens go through; the choice is among the others."""

    def __init__(self) -> None:
        super().__init__()
        self.chooser, self.parts, self.shared = nn.Linear(6, 6), Matrices(4), Matrices(2)

    def forward(self, x):
        scores = self.chooser(x).sigmoid()
        share, chosen = scores[:, :4].topk(2)
        out = sum(share[:, i : i + 1] * self.parts(x, chosen[:, i]) for i in range(2))
        everyone = torch.zeros(len(x), dtype=torch.long)
        return x + out + sum(scores[:, 4 + i : 5 + i] * self.shared(x, everyone + i) for i in range(2))


class MaybeNone(nn.Module):
    """The last alternative is no expert: its tokens pass by."""

    def __init__(self) -> None:
        super().__init__()
        self.chooser, self.parts = nn.Linear(6, 5), Matrices(4)

    def forward(self, x):
        share, chosen = self.chooser(x).softmax(-1).topk(1)
        none = chosen == 4
        return x + share.masked_fill(none, 0) * self.parts(x, chosen.masked_fill(none, 0)[:, 0])


class Flat(nn.Module):
    """Matrices of all experts one below the other."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = (nn.Parameter(torch.randn(4 * 8, 6)) for _ in range(2))

    def forward(self, x, chosen, share):
        out = torch.zeros_like(x)
        for number in range(4):
            rows, place = torch.where(chosen == number)
            wide, narrow = (w.view(4, 8, 6)[number] for w in (self.wide, self.narrow))
            out = out.index_add(0, rows, (x[rows] @ wide.T).relu() @ narrow * share[rows, place, None])
        return out


class Below(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.chooser, self.parts = nn.Linear(6, 4), Flat()

    def forward(self, x):
        share, chosen = self.chooser(x).softmax(-1).topk(2)
        return x + self.parts(x, chosen, share)


@pytest.mark.parametrize("mixture", [Masked, Looped, SharedToo, MaybeNone, Below])
@pytest.mark.parametrize("weightless", [False, True])
def test_a_router_is_known_by_the_use_of_its_choice(mixture, weightless):
    found = analyze(Stack(mixture(), mixture()), X, weightless=weightless)
    assert found.routers == tuple(Router(f"blocks.{i}.chooser", 4, f"blocks.{i}.parts") for i in range(2))


class Labelled(nn.Module):
    """The best of its classes, whose place is looked up in a table, and as many layers afterwards."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head, self.table = nn.Linear(6, classes), nn.Embedding(classes, 6)
        self.layers = nn.ModuleList(Expert() for _ in range(4))

    def forward(self, x):
        x = x + self.table(self._label(self.head(x)))
        for layer in self.layers:
            x = x + layer(x)
        return x

    def _label(self, scores):
        return scores.max(-1)[1]


class Argued(Labelled):
    def _label(self, scores):
        return scores.argmax(-1)


@pytest.mark.parametrize("labelled", [lambda: Labelled(4), lambda: Argued(5)])
def test_layers_after_a_label_are_no_experts(labelled):
    assert analyze(labelled(), torch.randn(16, 6)).routers == ()


def test_a_maximum_whose_place_nobody_reads_chooses_nothing():
    class Largest(Stacked):
        """The largest of its numbers scales what all matrices make of x afterwards."""

        def forward(self, x):
            largest, _ = self.chooser(x).max(-1, keepdim=True)
            everyone = torch.zeros(len(x), dtype=torch.long)
            return x + sum(largest * self.parts(x, everyone + i) for i in range(4))

    assert analyze(Largest(), torch.randn(16, 6)).routers == ()


def test_a_matrix_that_is_used_whole_or_in_unequal_pieces_holds_no_experts():
    class Unequal(Below):
        def forward(self, x):
            share, chosen = self.chooser(x).softmax(-1).topk(2)
            wide, narrow = self.parts.wide, self.parts.narrow
            both = (x @ wide[:8].T, x @ wide[8:20].T, x @ wide[20:].T)
            return x + torch.cat(both, -1) @ narrow * share.sum() * chosen.sum()

    assert analyze(Unequal(), torch.randn(16, 6)).routers == ()
