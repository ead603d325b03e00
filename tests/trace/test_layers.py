"""The symbols of torch's layers, each held against the trace and against removals by the contract."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtcore.testing import SymbolContract
from mtcore.trace import SymbolSpec, builtin_symbols

SPECS = {spec.name: spec for spec in builtin_symbols().specs()}
ROW = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class TestLinear(SymbolContract):
    @pytest.fixture
    def spec(self) -> SymbolSpec:
        return SPECS["nn.Linear"]

    @pytest.fixture
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))

    @pytest.fixture
    def where(self) -> str:
        return "2"

    @pytest.fixture
    def inputs(self) -> torch.Tensor:
        return ROW

    @pytest.fixture
    def states(self) -> dict[str, str]:
        return {"out_features": "searchable", "in_features": "dynamic"}


class TestLastLinear(TestLinear):
    """What leaves the model keeps its size."""

    @pytest.fixture
    def where(self) -> str:
        return "4"

    @pytest.fixture
    def states(self) -> dict[str, str]:
        return {"out_features": "constant", "in_features": "dynamic"}


class TestConvolution(TestLinear):
    @pytest.fixture
    def spec(self) -> SymbolSpec:
        return SPECS["nn.Conv2d"]

    @pytest.fixture
    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1)
        ).eval()

    @pytest.fixture
    def where(self) -> str:
        return "3"

    @pytest.fixture
    def inputs(self) -> torch.Tensor:
        return IMAGE

    @pytest.fixture
    def states(self) -> dict[str, str]:
        return {"out_channels": "searchable", "in_channels": "dynamic"}


class TestBatchNorm(TestConvolution):
    @pytest.fixture
    def spec(self) -> SymbolSpec:
        return SPECS["nn.BatchNorm2d"]

    @pytest.fixture
    def where(self) -> str:
        return "1"

    @pytest.fixture
    def states(self) -> dict[str, str]:
        return {"num_features": "dynamic"}


class TestEmbedding(TestLinear):
    @pytest.fixture
    def spec(self) -> SymbolSpec:
        return SPECS["nn.Embedding"]

    @pytest.fixture
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 3))

    @pytest.fixture
    def where(self) -> str:
        return "0"

    @pytest.fixture
    def inputs(self) -> torch.Tensor:
        return torch.arange(6).view(2, 3)

    @pytest.fixture
    def states(self) -> dict[str, str]:
        return {"embedding_dim": "searchable"}
