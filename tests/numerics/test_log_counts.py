"""Histograms of magnitudes on fixed bins: their edges, and what cannot be told apart."""

import torch

from mtcore.numerics.log_counts import LOG_BINS, log_counts, log_edges


def test_every_magnitude_lies_between_the_edges_of_its_bin():
    values = torch.tensor([0.0, 1e-30, 2.0**-32, 0.5, 1.0, 1.0039, -3.7, 448.0, 2.0**31.99])
    edges = log_edges()
    for value in values:
        place = int(log_counts(value).argmax())
        assert edges[place] <= value.abs() < edges[place + 1]


def test_each_value_of_bf16_is_the_lower_edge_of_a_bin():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(3)).bfloat16().float().abs()
    assert bool(torch.isin(values, log_edges()).all())


def test_nan_and_huge_values_count_in_the_last_bin():
    counts = log_counts(torch.tensor([torch.nan, torch.inf, 1e30]))
    assert (int(counts[-1]), len(counts)) == (3, LOG_BINS)


def test_counts_of_parts_add_up_to_those_of_the_whole():
    x = torch.randn(3, 100, generator=torch.Generator().manual_seed(4))
    assert torch.equal(log_counts(x), sum(log_counts(row) for row in x))
