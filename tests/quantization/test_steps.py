"""The plan says beforehand which steps undo each other, and which weights a step does not treat."""

import pytest
import torch
from torch import nn

import mtcore
from mtcore.errors import RecipeError
from mtcore.quantization import plan_model

BATCH = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))


class Stacked(nn.Module):
    """A linear layer, and stacked experts that all read its output."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)
        self.experts = nn.Parameter(torch.randn(4, 16, 16))

    def forward(self, x):
        x = self.fc(x)
        return sum(nn.functional.linear(x, self.experts[expert]) for expert in range(4))


def findings(model, algorithm, level):
    plan = plan_model(model, {"rules": [{"weight": "int8_row"}], "algorithm": algorithm}, inputs=BATCH)
    return [finding.message for finding in plan.findings if finding.level == level and finding.where == "algorithm"]


@pytest.mark.parametrize("later", ["smoothquant", "awq", "rotate", "svdquant", "mse", "max"])
def test_a_step_that_would_undo_rounding_is_refused_before_the_run(later):
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    with pytest.raises(RecipeError, match=f"gptq rounds weights, and {later} after it would undo that"):
        findings(model, ["gptq", later], "error")
    findings(model, [later, "gptq"], "error")
    quantized = mtcore.quantize(model, {"rules": [{"weight": "int8_row"}]}, [BATCH])
    with pytest.raises(RecipeError, match="would undo that; put it before"):
        mtcore.calibrate(quantized, ["gptq", later], [BATCH])


def test_scales_that_a_later_step_sets_anew_are_told():
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    told = findings(model, ["percentile", "awq"], "warning")
    assert told == ["awq sets all scales anew, so that percentile before it has no effect; put percentile after it"]
    assert len(findings(model, ["percentile", "max"], "warning")) == 1
    assert findings(model, ["max", "awq"], "warning") == findings(model, ["awq", "percentile"], "warning") == []


def test_weights_that_a_step_does_not_treat_are_named_in_the_plan():
    told = findings(Stacked(), "gptq", "warning")
    assert told == []
    for treating in ({"method": "gptq", "sequential": "none"}, "autoround", "smoothquant", "awq"):
        assert not any("experts get the scales" in line for line in findings(Stacked(), treating, "warning"))
    told = findings(Stacked(), "svdquant", "warning")
    assert "svdquant treats linear layers; experts get the scales of max" in told
    assert findings(Stacked(), "mse", "warning") == []
