"""The made-up layer keeps the contracts of quantized layers, symbols and trace rules."""

import pytest
import torch
from torch import nn

from mtcore.testing import QuantModuleContract, SymbolContract, TraceRuleContract
from mtopt_example.layer import PROJECTION, PROJECTION_SYMBOLS, SQUASH
from mtopt_example.madeup import Mlp, Projection


class TestProjection(QuantModuleContract):
    @pytest.fixture
    def spec(self):
        return PROJECTION

    @pytest.fixture
    def module(self):
        layer = Projection(24, 16)
        nn.init.normal_(layer.bias)
        return layer

    @pytest.fixture
    def inputs(self):
        return torch.randn(5, 24)


class TestSymbols(SymbolContract):
    @pytest.fixture
    def spec(self):
        return PROJECTION_SYMBOLS

    @pytest.fixture
    def trace_rules(self):
        return [SQUASH]

    @pytest.fixture
    def model(self):
        return Mlp(8, 12, 3)

    @pytest.fixture
    def where(self):
        return "down"

    @pytest.fixture
    def inputs(self):
        return torch.randn(5, 8)

    @pytest.fixture
    def states(self):
        return {"in_features": "dynamic", "out_features": "searchable"}


class TestSquash(TraceRuleContract):
    @pytest.fixture
    def rule(self):
        return SQUASH

    @pytest.fixture
    def model(self):
        return Mlp(8, 12, 3)

    @pytest.fixture
    def inputs(self):
        return torch.randn(5, 8)

    @pytest.fixture
    def folded(self):
        return set()  # squash(s x) is not s squash(x)
