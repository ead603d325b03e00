"""Models that the trace tests share; each builds in a few milliseconds."""

import pytest
import torch
from torch import nn


class Block(nn.Module):
    """Norm, three projections that read one value, and one that reads another."""

    def __init__(self, width=8):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.o = nn.Linear(width, width)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        h = self.norm(x)
        q, k, v = self.q(h), self.k(self.drop(h)), self.v(h.reshape(-1, h.shape[-1])).view_as(h)
        return x + self.o(torch.softmax(q @ k.transpose(-1, -2), -1) @ v)


@pytest.fixture
def block():
    torch.manual_seed(0)
    return Block()


@pytest.fixture
def x():
    return torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
