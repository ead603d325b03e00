"""The layer keeps the contracts of quantized modules and of symbols."""

import pytest
import torch
from torch import nn

from mtcore.testing import QuantModuleContract, SymbolContract
from mtopt_template.layers import SCALED_LINEAR, SYMBOLS, ScaledLinear


class TestScaledLinear(QuantModuleContract):
    @pytest.fixture
    def spec(self):
        return SCALED_LINEAR

    @pytest.fixture
    def module(self):
        torch.manual_seed(0)
        return ScaledLinear(24, 16)

    @pytest.fixture
    def inputs(self):
        return torch.randn(5, 24, generator=torch.Generator().manual_seed(1))


class TestSymbols(SymbolContract):
    @pytest.fixture
    def spec(self):
        return SYMBOLS

    @pytest.fixture
    def model(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), ScaledLinear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    @pytest.fixture
    def where(self):
        return "1"

    @pytest.fixture
    def inputs(self):
        return torch.randn(3, 8, generator=torch.Generator().manual_seed(1))

    @pytest.fixture
    def states(self):
        return {"out_features": "searchable"}
