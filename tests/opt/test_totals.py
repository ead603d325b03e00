"""Scores add up over batches; a decision that no data reached is an error, not a zero."""

import pytest

from mtcore.errors import CalibrationError
from mtcore.opt import AS_IT_IS, Decision, Totals

UP, ODD = Decision(("up",), 1, {AS_IT_IS: 16, "low": 4}), Decision(("odd",), 1, {AS_IT_IS: 16})


def test_the_mean_is_over_all_batches_also_those_that_missed_a_decision():
    totals = Totals()
    totals.add({"up": {"low": 0.5}})
    totals.add({})
    assert totals.means((UP, ODD)) == {"up": {"low": 0.25}}


def test_a_decision_that_no_data_reached_is_named():
    totals = Totals()
    totals.add({})
    with pytest.raises(CalibrationError, match=r"^up: the data never reached it"):
        totals.means((UP, ODD))
