"""Comparing bit for bit: zeros have signs, any NaN equals any NaN."""

import pytest
import torch

from mtcore.testing import assert_same_bits, assert_within_ulps, must_raise


def test_equal_tensors_pass_in_every_dtype():
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool):
        x = torch.tensor([[0.0, 1.0]]).to(dtype)
        assert_same_bits(x, x.clone(), "x")


def test_all_nans_are_equal():
    payload = torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32)
    assert_same_bits(payload, torch.tensor([torch.nan]), "x")


@pytest.mark.parametrize(
    ("actual", "expected", "complaint"),
    [
        (torch.zeros(2), -torch.zeros(2), r"x: first differing element \[0\] is 0\.0, expected -0\.0 \(2 of 2"),
        (torch.zeros(2), torch.zeros(3), r"x: shape \(2,\), expected \(3,\)"),
        (torch.zeros(2), torch.zeros(2).half(), "x: dtype torch.float32, expected torch.float16"),
        (torch.tensor([torch.nan]), torch.zeros(1), r"\[0\] is nan, expected 0\.0"),
    ],
)
def test_what_differs_is_said(actual, expected, complaint):
    with pytest.raises(AssertionError, match=complaint):
        assert_same_bits(actual, expected, "x")


def test_a_column_view_is_compared_in_its_own_order():
    x = torch.arange(6.0).view(2, 3)
    assert_same_bits(x.T, x.T.contiguous(), "x")


def test_units_in_the_last_place_are_counted_across_zero_and_powers_of_two():
    one, least = torch.ones(1), torch.tensor([2.0**-149])
    assert_within_ulps(torch.nextafter(one, 2 * one), torch.nextafter(one, 0 * one), 2, "x")
    assert_within_ulps(least, -least, 2, "x")
    assert_within_ulps(torch.tensor([0.0, torch.nan]), torch.tensor([-0.0, torch.nan]), 0, "x")
    with pytest.raises(AssertionError, match=r"x: element \[0\] is 1\.0000001.*: 2 units in the last place apart"):
        assert_within_ulps(torch.nextafter(one, 2 * one), torch.nextafter(one, 0 * one), 1, "x")


def test_nans_in_different_places_differ():
    with pytest.raises(AssertionError, match="NaNs in different places"):
        assert_within_ulps(torch.tensor([torch.nan]), torch.ones(1), 9, "x")


def test_an_error_that_says_something_else_is_shown_with_what_it_should_say():
    with (
        pytest.raises(AssertionError, match=r"the ValueError does not say 'row 3' \(say where\): broken"),
        must_raise(ValueError, "say where", "row 3"),
    ):
        raise ValueError("broken")


def test_an_error_of_another_kind_comes_through():
    with pytest.raises(KeyError), must_raise(ValueError, "say where"):
        raise KeyError("row 3")
