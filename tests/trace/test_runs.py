"""Sequences of numbers survive the way through their text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtcore.trace.runs import runs_from, runs_text


@given(st.lists(st.integers(0, 12), max_size=40))
def test_any_numbers_come_back(numbers):
    assert runs_from(runs_text(numbers)) == tuple(numbers)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 5), st.integers(1, 9)), max_size=6))
def test_numbers_made_of_runs_come_back(runs):
    numbers = [first + step * i for first, step, count in runs for i in range(count)]
    assert runs_from(runs_text(numbers)) == tuple(numbers)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([7], "7"),
        (range(4096), "0:4096"),
        ([*range(4), *range(8, 12)], "0:4,8:12"),
        ([0] * 64 + [1] * 64, "0*64,1*64"),
        ([3, 2, 1], "3,2,1"),
        ([0, 5], "0,5"),
    ],
)
def test_a_run_is_short(numbers, text):
    assert runs_text(list(numbers)) == text


@pytest.mark.parametrize("text", ["x", "1:", "1-2", "1,,2", "-1"])
def test_a_text_that_is_no_run_is_refused(text):
    with pytest.raises(ValueError, match="is no run of numbers"):
        runs_from(text)
