"""Statistics of several ranks together are those of one process on all of their data."""

import pytest
import torch

from mtcore.calibration.statistics.across import across_ranks
from mtcore.calibration.statistics.collector import Collector
from mtcore.calibration.statistics.needs import Needs

SITE = ("layer", "input")
ALL = Needs(moments=True, histogram=True, blocks=(4,), sample=6, gram=True)


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 8, generator=generator) for _ in range(4)]


def gathered(batches, needs=ALL):
    collector = Collector(needs)
    for batch in batches:
        collector.update(batch)
    result = collector.result()
    return {} if result is None else {SITE: result}


def test_two_ranks_know_what_one_process_knows(on_ranks, batches):
    """Magnitudes and counts are equal. A sum of 20 values in another order differs by at most 20 roundings of the
    sum of their magnitudes, which is below 40 here: 20 · 6e-8 · 40 = 5e-5."""
    alone = gathered(batches)[SITE]
    first, second = on_ranks(2, lambda r: across_ranks(gathered(r.share(batches)), {SITE: ALL}, r)[SITE])
    for one in (first, second):
        assert (one.tokens, one.batches) == (alone.tokens, alone.batches)
        assert torch.equal(one.amax, alone.amax)
        assert torch.equal(one.least, alone.least)
        assert torch.equal(one.counts, alone.counts)
        assert torch.equal(one.block_counts[4], alone.block_counts[4])
        for name in ("total", "squares", "gram"):
            torch.testing.assert_close(getattr(one, name), getattr(alone, name), rtol=0, atol=5e-5)
        assert one.covers(ALL)
    assert all(torch.equal(getattr(first, n), getattr(second, n)) for n in ("total", "gram", "sample"))


def test_a_sample_comes_from_all_ranks(on_ranks, batches):
    first, _ = on_ranks(2, lambda r: across_ranks(gathered(r.share(batches)), {SITE: ALL}, r)[SITE])
    rows = {tuple(row) for row in first.sample.tolist()}
    for share in (batches[::2], batches[1::2]):
        assert rows & {tuple(row) for row in torch.cat(share).tolist()}
    assert 3 < len(first.sample) <= 6


def test_a_rank_whose_data_never_reached_a_site_takes_the_others_word(on_ranks, batches):
    alone = gathered(batches)[SITE]
    found = on_ranks(2, lambda r: across_ranks(gathered(batches if r.rank else []), {SITE: ALL}, r)[SITE])
    for one in found:
        assert torch.equal(one.amax, alone.amax)
        assert torch.equal(one.gram, alone.gram)
        assert torch.equal(one.sample, alone.sample)
        assert one.tokens == alone.tokens


def test_a_site_that_no_rank_reached_stays_unknown(on_ranks):
    assert on_ranks(2, lambda r: across_ranks({}, {SITE: ALL}, r)) == [{}, {}]


def test_values_of_changing_width_have_one_magnitude(on_ranks):
    widths = [[torch.ones(2, 3)], [torch.ones(2, 4), 2 * torch.ones(2, 5)]]
    needs = Needs()
    found = on_ranks(2, lambda r: across_ranks(gathered(widths[r.rank], needs), {SITE: needs}, r)[SITE])
    assert [one.amax.tolist() for one in found] == [[2.0], [2.0]]


def test_what_is_not_a_number_on_one_rank_is_none_on_all(on_ranks):
    data = [[torch.ones(2, 3)], [torch.full((2, 3), torch.nan)]]
    found = on_ranks(2, lambda r: across_ranks(gathered(data[r.rank], Needs()), {SITE: Needs()}, r)[SITE])
    assert all(bool(one.amax.isnan().all()) for one in found)
