"""Edited parameters stay the same objects, and get their very own values back."""

import pytest
import torch
from torch import nn

from mtcore.calibration.edits import ParameterEdits
from mtcore.errors import CalibrationError


@pytest.fixture
def parameter():
    return nn.Parameter(torch.arange(4.0, dtype=torch.bfloat16).view(2, 2))


def test_a_value_is_cast_to_the_parameter(parameter):
    ParameterEdits().set(parameter, torch.full((4,), 1 / 3))
    assert parameter.dtype == torch.bfloat16
    assert torch.equal(parameter, torch.full((2, 2), 1 / 3).bfloat16())


def test_the_given_value_is_copied(parameter):
    value = torch.ones(2, 2, dtype=torch.bfloat16)
    ParameterEdits().set(parameter, value)
    value.zero_()
    assert parameter.sum() == 4


def test_undo_gives_the_very_first_tensor_back(parameter):
    edits, first = ParameterEdits(), parameter.data
    edits.set(parameter, torch.ones(2, 2))
    edits.set(parameter, torch.zeros(2, 2))
    edits.undo()
    edits.undo()
    assert parameter.data_ptr() == first.data_ptr()
    assert parameter.flatten().tolist() == [0, 1, 2, 3]


def test_originals_come_back_for_a_while_also_after_an_error(parameter):
    edits = ParameterEdits()
    edits.set(parameter, torch.ones(2, 2))

    def fail():
        with edits.originals_back():
            assert parameter.flatten().tolist() == [0, 1, 2, 3]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert parameter.sum() == 4


def test_nested_edits_go_back_to_their_own_start_and_the_outer_ones_to_the_first(parameter):
    outer = ParameterEdits()
    outer.set(parameter, torch.ones(2, 2))
    inner = outer.nested()
    inner.set(parameter, torch.zeros(2, 2))
    with inner.originals_back():
        assert parameter.sum() == 4
    outer.undo()
    assert parameter.flatten().tolist() == [0, 1, 2, 3]


def test_the_outer_edits_undo_what_only_nested_ones_changed(parameter):
    outer = ParameterEdits()
    outer.nested().set(parameter, torch.zeros(2, 2))
    outer.undo()
    assert parameter.flatten().tolist() == [0, 1, 2, 3]


def test_writable_values_are_a_copy_of_the_first_ones_once(parameter):
    edits, first = ParameterEdits(), parameter.data
    step = edits.nested()
    step.writable(parameter).mul_(2)
    second = parameter.data
    assert second is not first
    step.writable(parameter).mul_(2)
    assert parameter.data.data_ptr() == second.data_ptr()
    edits.nested().writable(parameter).mul_(2)  # another step, whose first values these are
    assert parameter.data.data_ptr() != second.data_ptr()
    edits.undo()
    assert parameter.data.data_ptr() == first.data_ptr()
    assert parameter.tolist() == [[0, 1], [2, 3]]


def test_edits_that_keep_nothing_write_in_place_and_put_nothing_back(parameter):
    edits, first = ParameterEdits(keep=False), parameter.data
    step = edits.nested()
    step.writable(parameter).mul_(2)
    assert parameter.data.data_ptr() == first.data_ptr()
    edits.undo()
    assert parameter.tolist() == [[0, 2], [4, 6]]
    with pytest.raises(CalibrationError, match="leave out undoable=False"), step.originals_back():
        pass


def test_what_was_before_rounding_lasts_through_roundings_and_is_forgotten_with_another_form(parameter):
    edits = ParameterEdits()
    before = parameter.data.clone()
    edits.set(parameter, before.round(), rounding=True)
    edits.set(parameter, before.round() / 2, rounding=True)
    assert torch.equal(edits.before_rounding(parameter), before)
    edits.writable(parameter).mul_(3)
    assert torch.equal(edits.before_rounding(parameter), parameter.data)
    edits.set(parameter, before.round(), rounding=True)
    edits.set(parameter, before * 2)
    assert torch.equal(edits.before_rounding(parameter), before * 2)
