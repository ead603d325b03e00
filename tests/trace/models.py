"""Small models that several tests of the trace share, and their groups in a form that compares."""

from __future__ import annotations

import torch
from torch import nn

from mtcore.trace.analyzer import Analysis


class Block(nn.Module):
    def __init__(self, width: int = 6, *, act: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.act = nn.ReLU() if act is None else act
        self.down = nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(self.act(self.up(self.norm(x))))


class Stack(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.begin = nn.Linear(4, 6)
        self.blocks = nn.ModuleList(blocks)
        self.end = nn.Linear(6, 3)

    def forward(self, x):
        x = self.begin(x)
        for block in self.blocks:
            x = block(x)
        return self.end(x)


class Routed(nn.Module):
    """Sends each row to the expert that its router chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(6, 3)
        self.up = nn.Parameter(torch.randn(3, 6, 8))
        self.down = nn.Parameter(torch.randn(3, 8, 6))

    def forward(self, x):
        chosen = self.router(x).argmax(-1)
        return x + (((x[:, None] @ self.up[chosen]).relu()) @ self.down[chosen])[:, 0]


def groups(analysis: Analysis) -> list[set[object]]:
    """All groups without their order and names."""
    report = analysis.report
    return [
        {(g.size, frozenset(g.up), frozenset(g.down)) for g in report.folds},
        {(g.size, g.state, frozenset(g.members)) for g in report.symbols},
        {(g.size, g.state, frozenset(g.members)) for g in report.blocks},
    ]
