"""Depth, width and heads as symbols, read off what ran."""

from __future__ import annotations

import torch
from torch import nn

from mtcore.trace import TraceInputs, analyze, analyze_symbols
from mtcore.trace.depth import runs_without, stacks_of_blocks
from tests.trace.models import Block, Stack


class Narrowing(nn.Module):
    """Every block halves the width, so that none can go."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8 >> i, 4 >> i), nn.ReLU()) for i in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_a_stack_of_residual_blocks_has_a_depth():
    symbols = analyze_symbols(Stack(Block(), Block(), Block()))
    assert symbols.get_symbol("blocks", "depth").state == "searchable"


def test_a_stack_of_which_no_block_can_go_has_a_constant_depth():
    symbols = analyze_symbols(Narrowing(), torch.randn(2, 8))
    assert symbols.get_symbol("blocks", "depth").state == "constant"


def test_layers_without_children_and_blocks_that_run_twice_are_no_stack():
    flat = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert list(stacks_of_blocks(flat, analyze(flat))) == []
    shared = Block()
    model = Stack(shared, shared)
    assert list(stacks_of_blocks(model, analyze(model))) == []


def test_skipping_a_block_is_undone():
    model = Stack(Block(), Block())
    x = torch.randn(3, 4)
    before = model(x)
    assert runs_without(model, TraceInputs.of(x), ["blocks.1"])
    assert torch.equal(model(x), before)
    assert not model.blocks[1]._forward_hooks


def test_the_inner_width_of_an_mlp_follows_its_producer():
    symbols = analyze_symbols(Stack(Block(), Block()))
    width = symbols.get_symbol("blocks.0", "width")
    assert width.state == "dynamic"
    assert width.root is symbols.get_symbol("blocks.0.up", "out_features")
