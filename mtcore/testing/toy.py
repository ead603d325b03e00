"""A toy model, data and plans for contracts: small, seeded, and shaped so that every built-in block divides it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtcore.formats import TensorFormat
from mtcore.nn import QuantModuleSpec, builtin_quant_modules
from mtcore.plan import Plan, make_plan
from mtcore.recipe.setting import AlgorithmStep, QuantizeConfig, SlotRule, SlotSetting, default_mode
from mtcore.trace import analyze

FEATURES, HIDDEN = 128, 256


class ToyModel(nn.Module):
    """A gated block, [tokens, 128] → [tokens, 128]: `gate` and `up` read one value, `norm` is never quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(FEATURES)
        self.gate = nn.Linear(FEATURES, HIDDEN, bias=False)
        self.up = nn.Linear(FEATURES, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, FEATURES)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 8)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        y: Tensor = self.down(F.silu(self.gate(normed)) * self.up(normed))
        return y


def toy_batches(count: int = 2, tokens: int = 16) -> list[Tensor]:
    """Seeded inputs of a ToyModel."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(tokens, FEATURES, generator=generator) for _ in range(count)]


def toy_config(weight: TensorFormat, inputs: TensorFormat | None = None, algorithm: str = "max") -> QuantizeConfig:
    """All linear layers in one format for weights and one, or none, for inputs."""
    rules = [SlotRule("*weight_quantizer", SlotSetting(weight, "static"), True, "the weights' rule")]
    if inputs is not None:
        setting = SlotSetting(inputs, default_mode(inputs, is_weight=False))
        rules.append(SlotRule("*input_quantizer", setting, True, "the inputs' rule"))
    return QuantizeConfig("toy", tuple(rules), (AlgorithmStep(algorithm),))


def toy_plan(model: nn.Module, config: QuantizeConfig) -> Plan:
    """The plan for a ToyModel; scales are shared as its trace says."""
    return make_plan(model, config, toy_specs(), analyze(model, toy_batches(1)[0]))


def toy_specs() -> dict[str, QuantModuleSpec]:
    """The built-in layers by name."""
    return {spec.name: spec for spec in builtin_quant_modules()}
