"""The rule of the operation keeps its contract."""

import pytest
import torch
from torch import nn

from mtcore.testing import TraceRuleContract
from mtopt_template.trace_rules import LEAKY, leaky


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.down(leaky(self.up(x)))


class TestLeaky(TraceRuleContract):
    @pytest.fixture
    def rule(self):
        return LEAKY

    @pytest.fixture
    def model(self):
        torch.manual_seed(0)
        return Block()

    @pytest.fixture
    def inputs(self):
        return torch.randn(5, 8, generator=torch.Generator().manual_seed(1))

    @pytest.fixture
    def folded(self):
        return {"up.weight", "down.weight"}
