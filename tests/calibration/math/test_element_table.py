"""A table rounds to an element as its arithmetic does."""

import math

import pytest
import torch

from mtcore.calibration.math.element_table import ElementTable, element_table
from mtcore.errors import FormatError
from mtcore.formats import FloatElement, IntElement, PowerOfTwoElement
from mtcore.numerics import round_to_element

CPU = torch.device("cpu")
FORMATS = ["int4_b32", "int8_row", "nvfp4", "fp8", "fp8_e5m2", "mxint8", "mxfp6_e2m3", "mxfp6_e3m2", "nf4"]


def critical(values):
    """All values, the middles between neighbours, what lies just beside both, and the ends of fp32."""
    exact = torch.tensor(sorted({v for v in values if math.isfinite(v)}), dtype=torch.float64)
    points = torch.cat((exact, (exact[1:] + exact[:-1]) / 2)).float()
    up, down = torch.full_like(points, torch.inf), torch.full_like(points, -torch.inf)
    ends = torch.tensor([torch.inf, -torch.inf, torch.nan, 3e38, -3e38, 1e-45, -1e-45, 1e-30, -1e-30])
    return torch.cat((points, points.nextafter(up), points.nextafter(down), ends))


def bits(x):
    return torch.where(x.isnan(), torch.nan, x).view(torch.int32)


@pytest.mark.parametrize("name", FORMATS)
def test_every_boundary_is_rounded_as_by_arithmetic(formats, name):
    element = formats[name].element
    values = element.table if hasattr(element, "table") else element.values
    x = critical(values) + 0.0  # a table cannot see the sign of a zero
    assert torch.equal(bits(ElementTable(element, CPU).round(x)), bits(round_to_element(x, element)))


def test_any_numbers_are_rounded_as_by_arithmetic(formats):
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 5
    for element in (FloatElement(2, 1), FloatElement(4, 3, specials="nan"), IntElement(4, narrow=True)):
        assert torch.equal(bits(ElementTable(element, CPU).round(x)), bits(round_to_element(x, element)))


def test_an_element_for_scales_is_refused():
    with pytest.raises(FormatError, match="an element for scales"):
        ElementTable(PowerOfTwoElement(), CPU)


def test_the_table_of_an_element_is_made_once():
    assert element_table(FloatElement(2, 1), CPU) is element_table(FloatElement(2, 1), CPU)
