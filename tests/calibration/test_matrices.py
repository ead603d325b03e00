"""Where matrices of layers and of stacks have their columns, and which channels of a fold these are."""

import pytest
import torch

from mtcore.calibration.matrices import Columns, apart, channels_by_matrix, planned_columns, stacks_of
from mtcore.plan import ModulePlan, make_plan
from mtcore.trace import FoldGroup, Slices, analyze
from tests.calibration.algorithms.test_stacked_scaling import Model, Stacked, Transposed

STACK = {("e", f"w.{expert}"): Columns(2, 2) for expert in range(3)}


def channels(side, columns):
    return {key: found.tolist() for key, found in channels_by_matrix(side, columns)}


@pytest.mark.parametrize(("kind", "axis"), [(Stacked, 2), (Transposed, 1)])
def test_columns_of_stacks_are_found_in_either_layout(kind, axis, specs, make_config):
    torch.manual_seed(0)
    model = Model(kind)
    plan = make_plan(
        model, make_config({"*weight_quantizer": "int4_b32"}), specs, analyze(model, torch.randn(8, 64))
    )
    columns = planned_columns(plan)
    assert columns["layers.0.router", "weight"] == Columns(64)
    assert columns["layers.1.experts", "gate_up_proj.3"] == Columns(64, axis)
    assert columns["layers.1.experts", "down_proj.0"] == Columns(32, axis)
    assert len(columns) == 2 * (2 + 2 * 4)


def test_facts_about_something_else_than_stacks_are_no_stacks():
    module = ModulePlan("a", "Attention", "attention", (("weight", (4, 4)),), (), "", facts=(("scores", (0,)),))
    assert stacks_of(module) == {}


def test_a_side_reaches_the_experts_all_of_whose_columns_have_channels():
    side = Slices("e.w", (0, 2), (5, 0, 1, 2), (0, 1, 2, 0))
    assert channels(side, STACK) == {("e", "w.0"): [1, 2]}
    assert channels(Slices("e.w", (0, 2), (4, 5, 2, 3), (1, 0, 0, 1)), STACK) == {
        ("e", "w.1"): [0, 1],
        ("e", "w.2"): [1, 0],
    }


@pytest.mark.parametrize("axes", [(0, 1), (2,), (0,), (2, 0)])
def test_a_side_along_other_axes_reaches_none(axes):
    assert channels(Slices("e.w", axes, (0, 1), (0, 1)), STACK) == {}
    assert channels(Slices("layer.weight", axes, (0, 1), (0, 1)), {("layer", "weight"): Columns(2)}) == {}
    assert channels(Slices("unknown.w", (0, 2), (0, 1), (0, 1)), STACK) == {}


def test_experts_with_channels_of_their_own_are_folds_of_their_own():
    up = Slices("e.v", (0, 1), (0, 1, 2, 3, 4, 5), (4, 0, 2, 1, 3, 5))
    down = Slices("e.w", (0, 2), (0, 1, 2, 3), (4, 0, 2, 1))
    group = FoldGroup.of(6, (up,), (down,))
    parts = list(apart(group, dict(channels_by_matrix(down, STACK))))
    assert [part.size for part, _ in parts] == [2, 2]
    (first, own), (second, other) = parts
    assert own["e", "w.0"].tolist() == [1, 0]
    assert other["e", "w.1"].tolist() == [1, 0]
    assert first.up == (Slices("e.v", (0, 1), (0, 1), (1, 0)),)
    assert second.up == (Slices("e.v", (0, 1), (2, 3), (1, 0)),)
    assert first.name.endswith("e.w[0]")


def test_what_shares_channels_stays_one_fold():
    sides = (Slices("e.w", (0, 2), tuple(range(6)), (0, 1) * 3), Slices("router.weight", (1,), (0, 1), (0, 1)))
    group = FoldGroup.of(2, (), sides)
    columns = {**STACK, ("router", "weight"): Columns(2)}
    consumers = {key: found for side in sides for key, found in channels_by_matrix(side, columns)}
    ((same, own),) = apart(group, consumers)
    assert same is group
    assert set(own) == set(columns)


def test_matrices_that_a_third_one_joins_are_one_fold():
    numbers = {("e", "w.0"): [0, 1], ("e", "w.1"): [2, 3], ("e", "w.2"): [1, 2]}
    group = FoldGroup.of(4, (), ())
    ((same, own),) = apart(group, {key: torch.tensor(found) for key, found in numbers.items()})
    assert same is group
    assert set(own) == set(numbers)
