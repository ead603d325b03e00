"""Statistics run data only for what is missing, and refuse by name what data did not show."""

import pytest
import torch

from mtcore.calibration.statistics import AMAX, Collector, Needs, Statistics
from mtcore.errors import CalibrationError

HERE, THERE = ("here", "input"), ("there", "input")


def statistics_of(value, needs):
    collector = Collector(needs)
    collector.update(value)
    return collector.result()


@pytest.fixture
def asked():
    return []


@pytest.fixture
def statistics(asked):
    def run(wanted):
        asked.append(dict(wanted))
        value = torch.ones(2, 4)
        return {site: statistics_of(value, needs) for site, needs in wanted.items() if site != THERE}

    return Statistics(run)


def test_data_run_once_for_what_is_missing_and_not_again(statistics, asked):
    statistics.need({HERE: AMAX})
    statistics.need({HERE: AMAX})
    statistics.need({HERE: Needs(moments=True)})
    assert asked == [{HERE: AMAX}, {HERE: Needs(moments=True)}]


def test_folded_scales_need_no_data(statistics, asked):
    statistics.need({HERE: AMAX})
    statistics.divide({HERE: torch.full((4,), 2.0)})
    statistics.need({HERE: AMAX})
    assert statistics[HERE].amax.tolist() == [0.5] * 4
    assert len(asked) == 1


def test_what_was_forgotten_is_gathered_again(statistics, asked):
    statistics.need({HERE: AMAX})
    statistics.forget()
    statistics.need({HERE: AMAX})
    assert len(asked) == 2


def test_a_value_that_data_never_reached_is_an_error_by_name(statistics):
    with pytest.raises(CalibrationError, match=r"never reached 1 quantizers \(there\.input\)"):
        statistics.need({HERE: AMAX, THERE: AMAX})


def test_a_batch_of_zeros_is_an_error_by_name():
    statistics = Statistics(None, {HERE: statistics_of(torch.zeros(2, 4), AMAX)})
    with pytest.raises(CalibrationError, match=r"here\.input: it was zero throughout a batch"):
        statistics.need({HERE: AMAX})


def test_a_recurrent_state_may_be_zero_before_its_first_step():
    state = ("rnn", "hidden_input")
    statistics = Statistics(None, {state: statistics_of(torch.zeros(2, 4), AMAX)})
    statistics.need({state: AMAX})
    assert statistics[state].amax.tolist() == [0.0] * 4


def test_without_data_the_names_of_what_is_missing_are_told():
    with pytest.raises(CalibrationError, match=r"needs calibration data to know 1 activations \(here\.input\)"):
        Statistics(None).need({HERE: AMAX})


def test_sites_that_share_statistics_go_on_sharing_them_where_they_are_divided_alike():
    one = statistics_of(torch.ones(2, 4), AMAX)
    statistics, by = Statistics(None, {HERE: one, THERE: one}), torch.full((4,), 2.0)
    statistics.divide({HERE: by, THERE: by})
    assert statistics[HERE] is statistics[THERE]
    assert statistics[HERE].amax.tolist() == [0.5] * 4
