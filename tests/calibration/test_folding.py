"""Folded scales change no output, reach the columns that the trace names, and can be undone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import mtcore
from mtcore.calibration import CalibrationRun, as_forward_loop
from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.folding import ScaledInput, fold, fold_inputs, scaled_inputs
from mtcore.calibration.matrices import Columns, planned_columns
from mtcore.calibration.statistics import AMAX
from mtcore.nn.walk import modules_by_name
from mtcore.plan import make_plan
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import QuantizeConfig
from mtcore.trace import FoldGroup, Slices, analyze


@pytest.fixture
def folded(model, batch, specs, make_config):
    """The converted toy model, its edits, and where scales can be folded, by consumers."""
    plan = make_plan(model, make_config({"*weight_quantizer": "int4_b32"}), specs, analyze(model, batch))
    converted, _ = convert(model, plan, specs)
    found = list(scaled_inputs(plan.folds, planned_columns(plan)))
    return converted, ParameterEdits(), {tuple(name for name, _ in where.consumers): where for where in found}


def test_a_norm_reaches_both_readers_of_its_value(folded):
    assert {("0.gate", "0.up"), ("1.gate", "1.up")} <= set(folded[2])


@torch.no_grad()
def test_outputs_stay_while_inputs_and_weights_are_scaled(folded, batch):
    model, edits, places = folded
    for quantizer in model.modules():
        if hasattr(quantizer, "enabled"):
            quantizer.enabled = False
    before, weight = model(batch), model[0].gate.weight.clone()
    for place in places.values():
        scales = torch.linspace(0.25, 4.0, place.group.size)
        fold(modules_by_name(model), edits, place, scales)
    assert torch.allclose(model(batch), before, atol=1e-4)
    columns = places["0.gate", "0.up"].by_consumer(torch.linspace(0.25, 4.0, 32))["0.gate", "weight"]
    assert torch.allclose(model[0].gate.weight, weight * columns)
    edits.undo()
    assert torch.equal(model(batch), before)


def test_sizes_of_channels_are_the_largest_of_their_columns(folded):
    place = folded[2]["0.gate", "0.up"]
    gate, up = torch.arange(32.0), torch.full((32,), 7.5)
    channels = place.channels_of({("0.gate", "weight"): gate, ("0.up", "weight"): up})
    assert torch.equal(place.by_consumer(channels)["0.up", "weight"], torch.maximum(gate, up))


def test_an_offset_is_part_of_what_is_scaled():
    norm, layer = nn.Module(), nn.Module()
    norm.weight = nn.Parameter(torch.tensor([0.5, -0.25]))
    layer.weight = nn.Parameter(torch.ones(3, 2))
    model = nn.ModuleDict({"norm": norm, "layer": layer})
    group = FoldGroup(
        "g", 2, (Slices("norm.weight", (0,), (0, 1), (1, 0), 1.0),), (Slices("layer.weight", (1,), (0, 1), (1, 0)),)
    )
    (place,) = scaled_inputs([group], {("layer", "weight"): Columns(2)})
    fold(modules_by_name(model), ParameterEdits(), place, torch.tensor([2.0, 4.0]))
    assert norm.weight.tolist() == [1.5 / 4 - 1, 0.75 / 2 - 1]
    assert layer.weight[0].tolist() == [4.0, 2.0]


def test_a_layer_only_some_of_whose_columns_are_reached_is_left_out():
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.ones(3, 2))
    group = FoldGroup("g", 1, (), (Slices("layer.weight", (1,), (0,), (0,)),))
    assert list(scaled_inputs([group], {("layer", "weight"): Columns(2)})) == []


def test_folding_tells_the_statistics_and_forgets_what_it_cannot_work_out(folded, batch):
    model, _, places = folded
    plan = make_plan(model, QuantizeConfig("none", ()), {})
    run = CalibrationRun(model, plan, as_forward_loop([batch]))
    inputs = {(f"0.{name}", "input"): AMAX for name in ("gate", "up", "down")}
    run.statistics.need({**inputs, ("0.up", "output"): AMAX})
    before = {site: statistics.amax for site, statistics in run.statistics.items()}
    norm, every = places["0.gate", "0.up"], tuple(range(48))
    group = FoldGroup("g", 48, (Slices("0.up.weight", (0,), every, every),),
                      (Slices("0.down.weight", (1,), every, every),))  # fmt: skip
    (middle,) = scaled_inputs([group], {("0.down", "weight"): Columns(48)})
    scales = torch.linspace(0.25, 4.0, norm.group.size)
    fold_inputs(run, norm, scales)
    assert set(run.statistics) == set(before)
    for site in (("0.gate", "input"), ("0.up", "input")):
        assert torch.equal(run.statistics[site].amax, before[site] / norm.by_consumer(scales)[site[0], "weight"])
    fold_inputs(run, middle, torch.full((middle.group.size,), 2.0))
    assert (
        "0.up",
        "output",
    ) not in run.statistics  # it lies between the producer's rows and the consumer's columns
    assert torch.equal(run.statistics["0.down", "input"].amax, before["0.down", "input"] / 2)


def test_slices_over_two_axes_in_any_order_are_scaled_where_they_lie():
    model = nn.Module()
    model.w = nn.Parameter(torch.ones(2, 3, 4))
    side = Slices("w", (2, 0), (0, 5), (0, 1), 0.5)  # flat over [4, 2]: (0, 0) and (2, 1)
    group = FoldGroup("g", 2, (side,), (side,))
    place = ScaledInput(group, {}, columns_divided=True)
    other = FoldGroup("g", 2, (side,), ())
    fold(modules_by_name(model), ParameterEdits(), replace(place, group=other), torch.tensor([2.0, 4.0]))
    wanted = torch.ones(2, 3, 4)
    wanted[0, :, 0], wanted[1, :, 2] = 1.5 / 2 - 0.5, 1.5 / 4 - 0.5
    assert torch.equal(model.w.data, wanted)


class Experts(nn.Module):
    """Two experts whose inputs lie on the second axis of their stack, the outputs on the last."""

    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.linspace(-1, 1, 2 * 32 * 16).sin().view(2, 32, 16))

    def forward(self, x):
        return torch.matmul(x.expand(2, *x.shape), self.up)


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.router, self.experts = nn.LayerNorm(32), nn.Linear(32, 2), Experts()

    def forward(self, x):
        h = self.norm(x)
        return (self.experts(h) * self.router(h).softmax(-1).T[:, :, None]).sum(0)


@torch.no_grad()
def test_what_a_stack_in_the_other_layout_reads_behind_a_norm_is_looked_at_again_after_a_fold():
    torch.manual_seed(0)
    data = [torch.randn(64, 32)]
    data[0][:, 3] *= 30
    plain = nn.LayerNorm(32)(data[0]).abs().max()
    recipe = {"rules": [{"weight": "int8_row", "input": "int8"}], "algorithm": "smoothquant"}
    model = mtcore.quantize(Mixture(), recipe, data)
    folded = model.norm(data[0]).abs().max()
    assert folded < 0.9 * plain
    assert float(model.experts.up_input_quantizer.amax) == float(folded)
