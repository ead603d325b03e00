"""A collector gathers what it is asked for, batch by batch, and goes on where another stopped."""

from dataclasses import fields

import pytest
import torch

from mtcore.calibration.math import log_counts
from mtcore.calibration.statistics import AMAX, Collector, Needs
from mtcore.calibration.statistics.collector import join
from mtcore.formats import Block
from mtcore.numerics import block_amax

ALL = Needs(moments=True, histogram=True, blocks=(4,), sample=10, gram=True)


@pytest.fixture
def matrices():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, 8, generator=generator) for rows in (7, 1, 30, 13)]


def collected(matrices, needs=ALL, known=None):
    collector = Collector(needs, known)
    for matrix in matrices:
        collector.update(matrix)
    return collector.result()


def test_sums_and_maxima_are_those_of_all_rows(matrices):
    found, whole = collected(matrices), torch.cat(matrices)
    assert (found.tokens, found.batches) == (51, 4)
    assert torch.equal(found.amax, whole.abs().amax(0))
    assert float(found.least) == min(float(matrix.abs().max()) for matrix in matrices)
    # fp32 sums of 51 terms in another order: each partial sum is off by at most half a unit of the total
    rough = {"rtol": 51 * 2**-24, "atol": 0}
    assert torch.allclose(found.mean, whole.abs().mean(0), **rough)
    assert torch.allclose(found.rms.square(), whole.square().mean(0), **rough)
    assert torch.allclose(found.gram, whole.T @ whole, rtol=0, atol=51 * 2**-24 * float(whole.square().sum()))
    assert torch.equal(found.counts, log_counts(whole))
    assert torch.equal(found.block_counts[4], log_counts(block_amax(whole, Block(1, 4))))


def test_sampled_rows_are_evenly_spaced_rows_of_the_data_and_no_more_than_asked_for(matrices):
    found, whole = collected(matrices), torch.cat(matrices)
    assert 5 < len(found.sample) <= 10
    first = next(i for i in range(found.stride) if torch.equal(whole[i], found.sample[0]))
    assert torch.equal(whole[first :: found.stride], found.sample)


def test_the_sample_does_not_depend_on_how_the_rows_are_cut_into_batches(matrices):
    whole = torch.cat(matrices)
    assert torch.equal(collected([whole]).sample, collected(whole.split(3)).sample)


def test_all_rows_are_kept_where_there_are_fewer_than_asked_for(matrices):
    assert torch.equal(collected(matrices, Needs(sample=51)).sample, torch.cat(matrices))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_going_on_after_some_batches_gives_the_same_bits(matrices, stop):
    before = collected(matrices[:stop])
    after, whole = collected(matrices[stop:], known=before), collected(matrices)
    for field in fields(whole):
        one, two = getattr(after, field.name), getattr(whole, field.name)
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, two), field.name
        elif field.name != "block_counts":
            assert one == two


def test_joining_several_values_at_once_is_joining_each(matrices):
    wide = [torch.cat((matrix, -2 * matrix), 1) for matrix in matrices]
    several = [Collector(AMAX) for _ in range(3)]
    for collector, seen in zip(several, (matrices, wide, matrices[:2]), strict=True):
        for matrix in seen:
            collector.update(matrix)
    join([*several, Collector(AMAX)])
    for collector, seen in zip(several, (matrices, wide, matrices[:2]), strict=True):
        assert torch.equal(collector.amax, collected(seen, AMAX).amax)
        assert torch.equal(collector.result().least, collected(seen, AMAX).least)


def test_asking_for_the_result_does_not_change_what_comes_after(matrices):
    collector = Collector(ALL)
    for matrix in matrices:
        collector.update(matrix)
        collector.result()
    assert torch.equal(collector.result().sample, collected(matrices).sample)


def test_an_empty_matrix_is_no_data():
    assert collected([torch.zeros(0, 8)]) is None


def test_nan_stays(matrices):
    matrices[1][0, 3] = torch.nan
    assert collected(matrices, AMAX).amax.isnan().tolist() == [i == 3 for i in range(8)]


def test_values_whose_width_changes_keep_the_amax_of_the_tensor():
    found = collected([torch.full((2, 4), 3.0), torch.full((2, 6), -5.0)], AMAX)
    assert found.amax.tolist() == [5.0]


def test_a_sample_keeps_the_dtype_of_the_value():
    assert collected([torch.ones(4, 8, dtype=torch.bfloat16)]).sample.dtype == torch.bfloat16


@pytest.mark.parametrize("needs", [AMAX, ALL], ids=["amax", "all"])
def test_a_value_of_more_axes_is_its_matrix(matrices, needs):
    folded = [torch.stack((matrix, -2 * matrix)) for matrix in matrices]
    one, other = collected(folded, needs), collected([x.flatten(0, 1) for x in folded], needs)
    assert (one.tokens, one.batches) == (other.tokens, other.batches) == (102, 4)
    assert torch.equal(one.amax, other.amax)
    assert needs == AMAX or torch.equal(one.sample, other.sample)
