"""Scales that no fold takes stay on the layer where the target can hold them; nothing changes but the rounding."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtcore.calibration import as_forward_loop, builtin_algorithms, resolve_algorithms, run_algorithms
from mtcore.calibration.carried import with_carried_scales
from mtcore.plan import holds_nothing, make_plan
from mtcore.quantization.collect import collect_artifact
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze

W8A8 = {"*weight_quantizer": "int8_row", "*input_quantizer": "int8_row", "2.*": None}
W4 = {"*weight_quantizer": "int4_b32", "2.*": None}


def holds_all(module, extra):
    return True


class Block(nn.Module):
    """A shift behind the norm, so that no fold reaches what gate and up read; down is reached from up."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.gate, self.up, self.down = nn.Linear(32, 64, bias=False), nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(x) + 0.1
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


@pytest.fixture
def model():
    """Two channels of each norm stand out."""
    torch.manual_seed(0)
    made = nn.Sequential(Block(), Block(), nn.Linear(32, 10)).eval()
    with torch.no_grad():
        for block in made[:2]:
            block.norm.weight[3:5] *= 50
    return made


@pytest.fixture
def planned(model, batch, specs, make_config):
    def make(rules, holds, method="smoothquant"):
        plan = make_plan(model, make_config(rules), specs, analyze(model, batch))
        return with_carried_scales(plan, method, holds)

    return make


@pytest.fixture
def calibrate(model, specs):
    def run(plan, *steps):
        converted, journal = convert(model, plan, specs)
        resolved = resolve_algorithms(steps, {spec.name: spec for spec in builtin_algorithms()})
        data = [torch.randn(64, 32, generator=torch.Generator().manual_seed(n)) for n in range(3)]
        summary = run_algorithms(converted, plan, resolved, as_forward_loop(data), journal.parameters, summary=True)
        return converted, journal, summary

    return run


def notes(plan, text):
    return [finding.where for finding in plan.findings if finding.level == "note" and text in finding.message]


def test_the_plan_says_by_layer_which_keep_their_scales(planned):
    plan = planned(W8A8, holds_all)
    carried = [module.name for module in plan.quantized if module.pre_quant_scale]
    assert carried == ["0.gate", "0.up", "1.gate", "1.up"]
    assert notes(plan, "keeps the scales of smoothquant as pre_quant_scale") == carried


def test_without_a_place_for_them_the_plan_names_and_counts_what_stays_unscaled(planned):
    plan = planned(W8A8, holds_nothing)
    assert not any(module.pre_quant_scale for module in plan.quantized)
    assert notes(plan, "is not scaled by smoothquant") == ["0.gate", "0.up", "1.gate", "1.up"]
    (warning,) = [finding for finding in plan.findings if finding.where == "smoothquant"]
    assert warning.message.startswith("4 of 6 linear layers stay unscaled (0.gate and 3 more)")


def test_a_target_may_hold_them_for_some_layers_only(planned):
    plan = planned(W8A8, lambda module, extra: module.name == "1.up")
    assert [module.name for module in plan.quantized if module.pre_quant_scale] == ["1.up"]


@torch.no_grad()
@pytest.mark.parametrize("rules", [W8A8, W4], ids=["W8A8", "W4"])
@pytest.mark.parametrize("method", ["smoothquant", "awq"])
def test_outputs_stay_but_for_the_rounding(planned, calibrate, model, batch, rules, method):
    """Scales and their inverses round once each in every product: 2 · 2⁻²⁴ of it, over two blocks."""
    wanted = model(batch)
    converted, _, _ = calibrate(planned(rules, holds_all, method), AlgorithmStep(method))
    for module in converted.modules():
        if hasattr(module, "disable"):
            module.disable()
    torch.testing.assert_close(converted(batch), wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_layers_that_read_one_value_share_their_scales(planned, calibrate):
    converted, _, _ = calibrate(planned(W8A8, holds_all), AlgorithmStep("smoothquant"))
    gate, up = (layer.input_quantizer.pre_quant_scale for layer in (converted[0].gate, converted[0].up))
    assert torch.equal(gate, up)
    assert gate[3:5].max() < gate[5:].min(), "channels that stand out are made smaller"


@torch.no_grad()
@pytest.mark.parametrize("method", ["smoothquant", "awq"])
def test_carried_scales_make_up_for_channels_that_stand_out(planned, calibrate, model, batch, method):
    wanted = model(batch)
    errors = []
    for holds in (holds_nothing, holds_all):
        converted, journal, _ = calibrate(planned(W8A8, holds, method), AlgorithmStep(method))
        errors.append(float((converted(batch) - wanted).norm()))
        journal.undo()
    assert errors[1] < 0.7 * errors[0]


@torch.no_grad()
def test_two_steps_multiply_their_scales(planned, calibrate, model, batch):
    wanted = model(batch)
    plan = planned(W8A8, holds_all)
    converted, _, _ = calibrate(plan, AlgorithmStep("smoothquant"), AlgorithmStep("awq", {"sample": 64}))
    for module in converted.modules():
        if hasattr(module, "disable"):
            module.disable()
    torch.testing.assert_close(converted(batch), wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("rules", [W8A8, W4], ids=["W8A8", "W4"])
def test_the_artifact_holds_the_scales_and_the_weight_they_belong_to(planned, calibrate, model, rules):
    original = model[0].gate.weight.clone()
    plan = planned(rules, holds_all)
    converted, _, _ = calibrate(plan, AlgorithmStep("smoothquant"))
    module = collect_artifact(converted, plan).modules["0.gate"]
    assert module.pre_quant_scale.shape == (32,)
    torch.testing.assert_close(converted[0].gate.weight * module.pre_quant_scale, original, rtol=1e-5, atol=0)
    assert collect_artifact(converted, plan).modules["0.down"].pre_quant_scale is None


@torch.no_grad()
def test_the_summary_compares_with_the_layer_as_it_is_scaled(planned, calibrate):
    """Were the sample scaled twice, the outputs would be another layer's, and the error about 1."""
    _, _, summary = calibrate(planned(W8A8, holds_all), AlgorithmStep("smoothquant"))
    assert all(layer.output_error < 0.05 for layer in summary.layers)


@torch.no_grad()
def test_undo_gives_the_original_outputs_bit_for_bit(planned, calibrate, model, batch):
    before = model(batch)
    _, journal, _ = calibrate(planned(W8A8, holds_all), AlgorithmStep("smoothquant"))
    journal.undo()
    assert torch.equal(model(batch), before)
