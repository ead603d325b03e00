"""Headroom raises the outer amax for small blocks' sake, within bounds."""

import pytest
import torch

from mtcore.calibration.math.headroom import headroom_amax
from mtcore.errors import CalibrationError


def test_the_amax_stands_spread_above_the_anchor():
    amaxes = torch.linspace(0.01, 1.0, 1000)
    assert headroom_amax(amaxes, anchor=1.0, upper=99.9, spread=1000.0) == pytest.approx(
        1000.0 * float(amaxes[9])  # the tenth of a thousand is the first percentile
    )


def test_what_was_seen_is_never_cut_below_the_upper_percentile():
    amaxes = torch.tensor([1e-6] * 500 + [8.0] * 500)
    assert headroom_amax(amaxes, spread=16384.0) == 8.0


def test_one_wild_block_beyond_the_upper_percentile_is_ignored():
    amaxes = torch.cat((torch.ones(99_999), torch.tensor([1e9])))
    assert headroom_amax(amaxes, upper=99.99, spread=4.0) == 4.0


def test_zero_blocks_do_not_count():
    assert headroom_amax(torch.tensor([0.0, 0.0, 2.0, 2.0]), spread=8.0) == 16.0


@pytest.mark.parametrize(
    ("amaxes", "words"), [(torch.zeros(4), "zero throughout"), (torch.tensor([1.0, torch.nan]), "NaN")]
)
def test_data_that_says_nothing_is_refused(amaxes, words):
    with pytest.raises(CalibrationError, match=words):
        headroom_amax(amaxes)


@pytest.mark.parametrize("bad", [{"anchor": 100.0}, {"upper": 101.0}, {"spread": 1.0}, {"anchor": -1.0}])
def test_options_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="anchor"):
        headroom_amax(torch.ones(4), **bad)
