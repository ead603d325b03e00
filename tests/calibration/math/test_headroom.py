"""Headroom raises the outer amax for small blocks' sake, within bounds."""

import pytest
import torch

from mtcore.calibration.math.headroom import headroom_amax
from mtcore.errors import CalibrationError
from mtcore.numerics.log_counts import log_counts

BIN = 2**-8
"""Bins of `log_counts` are at most this much wider than their lower edge, and give their upper edge."""


def at_most_a_bin_above(value):
    return pytest.approx(value * (1 + BIN / 2), rel=BIN / 2 + 1e-6)


def test_the_amax_stands_spread_above_the_anchor():
    amaxes = torch.linspace(0.01, 1.0, 1000)
    found = headroom_amax(log_counts(amaxes), anchor=1.0, upper=99.9, spread=1000.0)
    assert found == at_most_a_bin_above(
        1000.0 * float(amaxes[9])
    )  # the tenth of a thousand is the first percentile


def test_what_was_seen_is_never_cut_below_the_upper_percentile():
    amaxes = torch.tensor([1e-6] * 500 + [8.0] * 500)
    assert headroom_amax(log_counts(amaxes), spread=16384.0) == at_most_a_bin_above(8.0)


def test_one_wild_block_beyond_the_upper_percentile_is_ignored():
    amaxes = torch.cat((torch.ones(99_999), torch.tensor([1e9])))
    assert headroom_amax(log_counts(amaxes), upper=99.99, spread=4.0) == at_most_a_bin_above(4.0)


def test_zero_blocks_do_not_count():
    counts = log_counts(torch.tensor([0.0, 0.0, 2.0, 2.0]))
    assert headroom_amax(counts, spread=8.0) == at_most_a_bin_above(16.0)


def test_an_activation_that_was_zero_throughout_is_refused():
    with pytest.raises(CalibrationError, match="zero throughout"):
        headroom_amax(log_counts(torch.zeros(4)))


@pytest.mark.parametrize("bad", [{"anchor": 100.0}, {"upper": 101.0}, {"spread": 1.0}, {"anchor": -1.0}])
def test_options_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="anchor"):
        headroom_amax(log_counts(torch.ones(4)), **bad)
