"""Statistics of a value can be read, divided by channel scales, and checked for what they hold."""

import pytest
import torch

from mtcore.calibration.statistics import AMAX, Collector, Needs
from mtcore.formats import PER_TENSOR, WHOLE, Block

ALL = Needs(moments=True, histogram=True, blocks=(4,), sample=64, gram=True)


@pytest.fixture
def value():
    return torch.randn(20, 8, generator=torch.Generator().manual_seed(0))


def of(value, needs=ALL):
    collector = Collector(needs)
    collector.update(value)
    return collector.result()


def test_magnitudes_of_blocks_over_all_rows_come_from_those_of_columns(value):
    found = of(value)
    assert torch.equal(found.block_amax(PER_TENSOR), value.abs().max().view(1, 1))
    assert torch.equal(found.block_amax(Block(WHOLE, 4)), value.abs().amax(0).view(2, 4).amax(1)[None])


def test_dividing_is_gathering_from_the_divided_value(value):
    scales = 2.0 ** torch.arange(-4, 4).float()  # powers of two, so that both ways round alike
    divided, direct = of(value).divided(scales), of(value / scales)
    for name in ("amax", "total", "squares", "sample", "gram"):
        assert torch.equal(getattr(divided, name), getattr(direct, name)), name
    assert divided.counts is None
    assert not divided.block_counts


def test_it_says_what_it_covers(value):
    assert of(value).covers(ALL)
    assert not of(value, AMAX).covers(Needs(moments=True))
    assert not of(value).divided(torch.ones(8)).covers(Needs(histogram=True))


def test_a_sample_of_all_rows_covers_any_wish_and_a_thinned_one_only_its_own(value):
    assert of(value, Needs(sample=64)).covers(Needs(sample=10_000))
    thinned = of(value, Needs(sample=8))
    assert thinned.covers(Needs(sample=8))
    assert not thinned.covers(Needs(sample=64))


def test_reading_what_was_not_declared_is_our_own_mistake(value):
    with pytest.raises(AssertionError, match="moments"):
        _ = of(value, AMAX).mean
