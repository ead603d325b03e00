"""Small things that many tests need: a tiny model with shared inputs, formats by name, and settings."""

import pytest
import torch
from torch import nn

from mtcore.formats import TensorFormat, builtin_formats
from mtcore.nn import builtin_quant_modules
from mtcore.recipe.setting import QuantizeConfig, SlotRule, SlotSetting, default_mode


class Block(nn.Module):
    """Two layers read one value, a third reads their result; a norm in front."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 48, bias=False)
        self.up = nn.Linear(width, 48)
        self.down = nn.Linear(48, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        return x + self.down(torch.relu(self.gate(h)) * self.up(h))


@pytest.fixture
def block_type() -> type[nn.Module]:
    return Block


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Block(), Block(), nn.Linear(32, 10)).eval()


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.randn(6, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def formats() -> dict[str, TensorFormat]:
    return {name: fmt for fmt in builtin_formats() for name in (fmt.name, *fmt.aliases)}


@pytest.fixture(scope="session")
def specs():
    return {spec.name: spec for spec in builtin_quant_modules()}


@pytest.fixture(scope="session")
def make_config(formats):
    """make_config({"*weight_quantizer": "nvfp4", "2.*": None}): a format name, or None to switch off."""

    def make(rules: dict[str, str | None], **fields) -> QuantizeConfig:
        made = []
        for number, (pattern, name) in enumerate(rules.items(), 1):
            setting = None
            if name is not None:
                is_weight = "weight" in pattern
                setting = SlotSetting(formats[name], default_mode(formats[name], is_weight=is_weight))
            made.append(SlotRule(pattern, setting, name is not None, f"rule #{number}"))
        return QuantizeConfig("test", tuple(made), **fields)

    return make


@pytest.fixture
def layer():
    """layer(rows, cols): a weight [rows, cols], inputs [tokens, cols] whose channels are correlated, and Σ x xᵀ."""

    def make(rows=6, cols=32, tokens=200, seed=0):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(rows, cols, generator=generator)
        mixing = torch.randn(cols, cols, generator=generator) / cols**0.5 + torch.eye(cols)
        inputs = torch.randn(tokens, cols, generator=generator) @ mixing
        return weight, inputs, inputs.T @ inputs

    return make
