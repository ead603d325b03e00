"""Blocks as symbols: two groups of one owner are two symbols."""

import dataclasses

import torch
from torch import nn

from mtcore.trace import Analysis, BlockGroup, GraphDependencyProcessor, Slices, SymMap, builtin_symbols


def test_two_groups_of_one_owner_are_two_symbols():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
    analysis = Analysis(model)
    rows = Slices("0.weight", (0,), (0, 1, 2, 3), (0, 0, 1, 1))
    first = BlockGroup("first", 2, (rows,), "searchable", "")
    second = BlockGroup("second", 2, (rows,), "constant", "an operation needs them")
    analysis.report = dataclasses.replace(analysis.report, blocks=(first, second))
    symbols = SymMap(model, builtin_symbols())
    GraphDependencyProcessor(model, analysis, symbols).process()
    states = {name: symbol.state for name, symbol in symbols.named_symbols() if "blocks" in name}
    assert "0.blocks: searchable\n0.blocks_2: constant" in str(symbols)
    assert states == {"0.blocks": "searchable", "0.blocks_2": "constant"}
