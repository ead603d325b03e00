"""Cut-offs from histograms: by share, and by the information that is lost."""

import math

import pytest
import torch

from mtcore.calibration.math.histogram import (
    entropy_amax,
    linear_counts,
    log_percentile,
)
from mtcore.errors import CalibrationError
from mtcore.formats.element import E2M1, E4M3, E8M0, INT8
from mtcore.numerics.log_counts import LOG_BINS, log_counts


def counted(values, bins=2048):
    width = float(values.abs().max()) / bins * (1 + 1e-6)
    return torch.bincount((values.abs() / width).long(), minlength=bins), width


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9, 100.0])
def test_a_percentile_is_the_quantile_up_to_a_bin(percentile):
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    exact = values.abs().sort().values[max(0, math.ceil(round(percentile * 100, 6)) - 1)]
    assert exact < log_percentile(log_counts(values), percentile) <= exact * (1 + 2**-8)


def test_a_linear_histogram_keeps_the_number_of_values_and_the_share_below_every_edge():
    values = torch.rand(100_000, generator=torch.Generator().manual_seed(5)) * 3
    amax = float(values.max())
    linear = linear_counts(log_counts(values), amax, bins=64)
    assert float(linear.sum()) == pytest.approx(100_000)
    exact = torch.histc(values, 64, 0, amax).cumsum(0)
    # A log bin at most 2^-8 wide is cut by an edge: it holds at most that share of the values, evenly spread.
    assert float((linear.cumsum(0) - exact).abs().max()) < 100_000 * 2**-8


def test_a_linear_histogram_of_values_at_the_top_alone_fills_the_last_bin():
    linear = linear_counts(log_counts(torch.full((10,), 2.0)), 2.0, bins=2048)
    assert float(linear.sum()) == pytest.approx(10)
    assert float(linear[-16:].sum()) == pytest.approx(10)  # the log bin below 2.0 is 8 linear ones wide


def by_loops(counts, width, element, start, stride):
    """The same definition, one bin at a time."""
    last = max(i for i, c in enumerate(counts) if c)
    codes = sorted(v for v in set(element.values) if 0 <= v <= element.max)
    best, cheapest = None, math.inf
    for cut in [*range(min(start, last + 1), last + 1, stride), last + 1]:
        kept = [float(c) for c in counts[:cut]]
        p = list(kept)
        p[-1] += float(sum(counts[cut:]))
        place = [
            min(range(len(codes)), key=lambda k: abs(codes[k] - (i + 0.5) * element.max / cut)) for i in range(cut)
        ]
        q = [0.0] * cut
        for k in range(len(codes)):
            members = [i for i in range(cut) if place[i] == k and p[i] > 0]
            for i in members:
                q[i] = sum(kept[j] for j in range(cut) if place[j] == k) / len(members)
        p_sum, q_sum = sum(p), sum(q)
        cost = sum(
            a / p_sum * math.log((a / p_sum) / max(b / q_sum, 1e-12)) for a, b in zip(p, q, strict=True) if a
        )
        if cost < cheapest - 1e-12:
            best, cheapest = cut * width, cost
    return best


@pytest.mark.parametrize("element", [INT8, E2M1, E4M3], ids=lambda e: e.name)
def test_entropy_equals_a_loop_over_bins(element):
    values = torch.randn(4000, generator=torch.Generator().manual_seed(1)) ** 3
    counts, width = counted(values, 300)
    assert entropy_amax(counts, width, element, start=20, stride=40) == pytest.approx(
        by_loops(counts.tolist(), width, element, 20, 40)
    )


def test_entropy_cuts_a_long_tail_and_keeps_a_full_range():
    generator = torch.Generator().manual_seed(2)
    body = torch.randn(100_000, generator=generator)
    counts, width = counted(torch.cat((body, torch.tensor([100.0]))))
    assert entropy_amax(counts, width, INT8) < 15
    counts, width = counted(torch.rand(100_000, generator=generator))
    assert entropy_amax(counts, width, INT8) > 0.95


def test_an_empty_histogram_is_refused():
    for cut in (lambda c: log_percentile(c, 99.0), lambda c: entropy_amax(c, 1.0, INT8)):
        with pytest.raises(CalibrationError, match="no value"):
            cut(torch.zeros(LOG_BINS, dtype=torch.int64))


def test_scale_elements_have_no_entropy_cut():
    with pytest.raises(ValueError, match="holds scales"):
        entropy_amax(torch.ones(4), 1.0, E8M0)
