"""Blocks that repeat others: recognised, given the same groups, and never taken for what they are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtcore.trace import verify
from mtcore.trace.analyzer import Analysis
from tests.trace.models import Block, Routed, Stack, groups


def both(model: nn.Module, inputs: object = None) -> Analysis:
    """The analysis, after checking that it finds what the one without reuse finds."""
    found = Analysis(model, inputs)
    assert groups(found) == groups(Analysis(model, inputs, reuse=False))
    return found


def test_equal_blocks_are_analysed_once_and_have_the_groups_of_all():
    torch.manual_seed(0)
    model = Stack(*(Block() for _ in range(5)))
    found = both(model)
    assert found.planes.copies == {"blocks.0": [f"blocks.{n}" for n in range(1, 5)]}
    assert sum("up.weight" in g.name for g in found.report.folds) == 2 * 5  # norm → up, and up → down
    assert verify(model, found.report).dropped == ()


def test_the_residual_stream_reaches_into_the_copies():
    found = both(Stack(*(Block() for _ in range(3))))
    stream = next(g for g in found.report.symbols if "begin.weight" in g.parameters)
    assert {f"blocks.{n}.down.weight" for n in range(3)} < set(stream.parameters)
    assert stream.name.count("begin.weight") == 1


def test_a_copy_is_explained_under_its_own_names():
    found = both(Stack(*(Block() for _ in range(12))))
    assert found.explain("blocks.11.up.weight", 0, 3) == ()
    lines = found.explain("blocks.11.down.weight", 0, 1)
    assert lines
    assert any(line.startswith("blocks.11.down.weight") for line in lines)
    assert not any("blocks.1." in line or "blocks.0." in line for line in lines)


def test_a_block_that_does_something_else_is_analysed_itself():
    found = both(Stack(Block(), Block(act=nn.GELU()), Block(), Block(act=nn.GELU())))
    assert found.planes.copies == {"blocks.0": ["blocks.2"], "blocks.1": ["blocks.3"]}


class Shifted(Block):
    """Adds neighbours; which ones depends on its index, not on its class."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x):
        order = (torch.arange(12) + self.by) % 12
        return x + self.down(self.act(self.up(self.norm(x)))[..., order])


def test_other_indices_in_the_same_operations_are_noticed():
    found = both(Stack(Shifted(0), Shifted(1), Shifted(0)))
    assert found.planes.copies == {"blocks.0": ["blocks.2"]}


class Looping(Stack):
    """Runs all its blocks twice."""

    def forward(self, x):
        x = self.begin(x)
        for block in [*self.blocks, *self.blocks]:
            x = block(x)
        return self.end(x)


def test_blocks_that_run_twice_are_analysed_themselves():
    assert both(Looping(Block(), Block())).planes.copies == {}


def test_a_block_that_stands_twice_in_a_list_is_no_copy_of_itself():
    shared = Block()
    assert both(Stack(shared, Block(), shared, Block())).planes.copies == {"blocks.1": ["blocks.3"]}


class Stealing(Stack):
    """Uses a weight of one of its blocks outside of it."""

    def forward(self, x):
        return super().forward(x) + (self.blocks[1].up.weight.sum(0) + x.sum())[:3]


def test_a_parameter_used_outside_its_block_counts():
    model = Stealing(Block(), Block(), Block())
    assert both(model).planes.copies == {}


class Keeping(Block):
    """Leaves its hidden values behind, where the model uses them."""

    def forward(self, x):
        self.kept = self.up(self.norm(x))
        return x + self.down(self.act(self.kept))


class Mixing(Stack):
    def forward(self, x):
        out = super().forward(x)
        return out + (self.blocks[0].kept * self.blocks[2].kept).tanh()[:, :3]


def test_values_that_leave_a_block_and_are_used_elsewhere_count():
    both(Mixing(Keeping(), Keeping(), Keeping()))


class Writing(Block):
    """Writes into the tensor that it is given."""

    def forward(self, x):
        x[:, :2] = self.down(self.act(self.up(self.norm(x))))[:, :2]
        return x


def test_a_block_that_writes_into_its_input_is_analysed_itself():
    assert both(Stack(Writing(), Writing(), Writing())).planes.copies == {}


@pytest.mark.parametrize("seed", range(4))
def test_blocks_that_choose_other_experts_keep_their_own_groups(seed):
    torch.manual_seed(seed)
    both(Stack(*(nn.Sequential(Routed(), nn.ReLU()) for _ in range(3))), torch.randn(16, 4))


class Failing(Block):
    def forward(self, x):
        if self.act is None:
            raise ValueError("no activation")
        return super().forward(x)


def test_a_block_that_fails_in_the_middle_leaves_no_claim():
    model = Stack(Failing(), Failing(), Failing())
    model.blocks[1].act = None
    found = both(model)
    assert found.report.failures
    assert found.report.folds == ()
