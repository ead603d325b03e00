"""Experts: a stack goes together with the rows of its router; after a removal the choice is among the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mtcore.trace import TraceInputs, TraceReport, analyze
from mtcore.trace.analyzer import Analysis
from mtcore.trace.channels import SEARCHABLE
from mtcore.trace.choice import without_alternatives
from mtcore.trace.removal import check_removal
from tests.trace.models import Stack


class Experts(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(count, 6, 8))
        self.bias = nn.Parameter(torch.randn(count, 8))
        self.down = nn.Parameter(torch.randn(count, 8, 6))

    def forward(self, x, chosen):
        hidden = (x[:, None] @ self.up[chosen])[:, 0] + self.bias[chosen]
        return (hidden.relu()[:, None] @ self.down[chosen])[:, 0]


class Mixture(nn.Module):
    """The two best of its experts by a softmax, weighted; tokens are rows."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(6, count)
        self.experts = Experts(count)

    def forward(self, x):
        share, chosen = self.router(x).softmax(-1).topk(2)
        share = share / share.sum(-1, keepdim=True)
        return x + sum(share[:, i : i + 1] * self.experts(x, chosen[:, i]) for i in range(2))


X = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> Stack:
    torch.manual_seed(0)
    return Stack(Mixture(), Mixture())


def test_an_expert_goes_with_its_row_of_the_router(model):
    first, second = analyze(model, X).blocks
    assert first.parameters == (
        "blocks.0.router.weight",
        "blocks.0.router.bias",
        "blocks.0.experts.up",
        "blocks.0.experts.bias",
        "blocks.0.experts.down",
    )
    assert (first.size, first.state, first.chosen_in) == (4, SEARCHABLE, "blocks.0")
    assert second.chosen_in == "blocks.1"


def test_a_repeated_block_has_its_own_group_of_experts(model):
    found = Analysis(model, X)
    assert found.planes.copies == {"blocks.0": ["blocks.1"]}
    assert found.report.blocks == Analysis(model, X, reuse=False).report.blocks


def test_every_expert_is_reached_whatever_the_router_prefers(model):
    with torch.no_grad():
        model.blocks[0].router.bias[3] = -100.0
    sizes = {g.name: g.size for g in analyze(model, X).folds}
    assert sizes["blocks.0.experts.down → blocks.0.experts.up + blocks.0.experts.bias"] == 4 * 8


@pytest.mark.parametrize("gone", [[0], [2], [1, 3]])
def test_the_smaller_model_is_the_one_that_never_chooses_the_removed(model, gone):
    group = analyze(model, X).blocks[0]
    check = check_removal(model, TraceInputs.of(X), group, gone)
    assert check.outcome == "ok"
    assert check.effect > 1e-2


def test_a_group_with_the_wrong_rows_of_the_router_is_caught(model):
    group = analyze(model, X).blocks[0]
    router, *rest = group.members
    wrong = replace(group, members=(replace(router, indices=(1, 2, 3, 0)), *rest))
    assert check_removal(model, TraceInputs.of(X), wrong, [0]).outcome == "mismatch"


def test_the_report_keeps_where_the_choice_is_made(model):
    report = analyze(model, X)
    assert TraceReport.from_json(report.to_json()) == report


def test_a_choice_without_alternatives_falls_on_the_others():
    model = nn.Sequential(nn.Identity(), nn.Softmax(-1))
    with without_alternatives(model, "1", 3, [2]):
        inside = model(torch.tensor([[1.0, 2.0, 9.0]]))
    assert inside[0, 2] == 0
    assert model(torch.tensor([[1.0, 2.0, 9.0]]))[0, 2] > 0.9


def test_other_modules_and_other_lengths_choose_as_always():
    model = nn.Sequential(nn.Softmax(-1), nn.Softmax(-1))
    x = torch.tensor([[1.0, 2.0, 9.0]])
    with without_alternatives(model, "1", 4, [2]):
        assert torch.equal(model(x), model[1](model[0](x)))


class Ranking(nn.Module):
    """The largest of its tokens: no parameters are alternatives there."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6)

    def forward(self, x):
        return self.layer(x.topk(2, dim=0).values)


def test_a_ranking_of_values_is_left_alone():
    found = Analysis(Ranking(), X)
    assert not found.planes.has_forced
    assert found.report.blocks == ()


class Fussy(nn.Module):
    """Fails when the choice is not the router's own."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(4, 3)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        scores = self.router(x)
        values, _ = scores.topk(1)
        if not torch.equal(values[:, 0], scores.amax(-1)):
            raise RuntimeError("that is not the best one")
        return self.out(x) * values


def test_a_model_that_does_not_run_with_dealt_out_choices_is_analysed_as_it_runs():
    report = analyze(Fussy(), X)
    assert report.failures == ()
    assert report.calls("out") == 1


class FussyTwice(Fussy):
    """Runs its two equal blocks twice, which is known at the end only."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2))

    def forward(self, x):
        y = super().forward(x)
        for block in [*self.blocks, *self.blocks]:
            y = y + block(y)
        return y


def test_what_does_not_run_with_dealt_out_choices_is_never_run_with_them_again():
    report = analyze(FussyTwice(), X)
    assert report.failures == ()
    assert report.calls("blocks.1") == 2
