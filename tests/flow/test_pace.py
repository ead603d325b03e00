"""Work is kept seldom enough that keeping takes a small share of the time, also the first time."""

import pytest

from mtcore.flow import pace as module
from mtcore.flow.pace import Pace


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def kept_times(seconds, size, cost, until):
    """When something of some size is kept by a run of batches that take `seconds` each; keeping takes `cost`."""
    clock = Clock()
    pace, times = Pace(clock), []

    def keep():
        times.append(clock.now)
        clock.now += cost

    while clock.now < until:
        clock.now += seconds
        pace.perhaps(keep, lambda: size)
    return times


def test_what_costs_nothing_is_kept_every_few_seconds():
    times = kept_times(1, 1000, 0, 100)
    assert times == [module.EVERY_SECONDS * (n + 1) for n in range(20)]


@pytest.mark.parametrize("cost", [0.5, 10, 60])
def test_keeping_takes_its_share_of_the_time_at_most(cost):
    # the rate that is counted on before the first time is right or too low here
    times = kept_times(0.5, int(cost * module.FIRST_RATE), cost, 20_000)
    assert len(times) >= 2
    assert len(times) * cost <= module.SHARE * (times[-1] + cost)


def test_a_disk_that_is_slower_than_expected_is_known_after_the_first_time():
    times = kept_times(0.5, int(module.FIRST_RATE), 100, 20_000)
    assert times[0] == 1 / module.SHARE
    assert times[1] - times[0] >= 100 / module.SHARE
