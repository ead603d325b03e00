"""Code books: the nearest entry exactly, and NF4's values from their definition."""

from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
import torch

from mtcore.formats import TableElement
from mtcore.formats.codebooks import NF4_ELEMENT
from mtcore.numerics.codebook import entries, nearest_entry

UNEVEN = TableElement("uneven", (-3.0, -0.1, 0.0, 0.3))


def nearest_exactly(x: float, element: TableElement) -> int:
    table = [Fraction(float(np.float32(value))) for value in element.table]
    gaps = [abs(value - Fraction(x)) for value in table]
    return min(range(len(table)), key=lambda index: (gaps[index], index % 2))


@pytest.mark.parametrize("element", [NF4_ELEMENT, UNEVEN], ids=lambda e: e.name)
def test_the_nearest_entry_is_exact_around_every_midpoint(element):
    table = np.array(element.table, dtype=np.float32)
    middle = ((table[1:].astype(np.float64) + table[:-1]) / 2).astype(np.float32)
    near = np.concatenate(
        [middle, np.nextafter(middle, np.float32(9)), np.nextafter(middle, np.float32(-9)), table]
    )
    found = nearest_entry(torch.from_numpy(near), element)
    assert found.tolist() == [nearest_exactly(float(x), element) for x in near]


def test_values_out_of_range_go_to_the_ends_and_nan_to_zero():
    codes = nearest_entry(torch.tensor([-torch.inf, -9.0, 9.0, torch.inf, torch.nan]), NF4_ELEMENT)
    assert codes.tolist() == [0, 0, 15, 15, 7]


def test_entries_are_the_table():
    codes = torch.arange(16, dtype=torch.uint8).view(2, 8)
    assert torch.equal(entries(codes, NF4_ELEMENT), torch.tensor(NF4_ELEMENT.table).view(2, 8))


def test_nf4_holds_the_quantiles_of_its_definition():
    """Equal steps of probability between 1/2 and an offset, seven below zero and eight above, scaled to [-1, 1]."""
    offset = (1 - 1 / (2 * 15) + 1 - 1 / (2 * 16)) / 2  # the mean of the two halves' outermost probabilities
    quantile = NormalDist().inv_cdf
    above = [quantile(offset + (0.5 - offset) * step / 8) for step in range(8)]
    below = [-quantile(offset + (0.5 - offset) * step / 7) for step in range(7)]
    values = sorted([*below, 0.0, *above])
    assert [value / max(values) for value in values] == pytest.approx(NF4_ELEMENT.table, abs=2e-7)
