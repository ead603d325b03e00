"""The built-in formats keep the contract of formats; and the contract finds what is wrong with a bad one."""

import dataclasses
import math
import re

import ml_dtypes
import numpy as np
import pytest
import torch

from mtcore.formats import (
    PER_TENSOR,
    Float32Element,
    FloatElement,
    Scale,
    TableElement,
    TensorFormat,
    builtin_formats,
)
from mtcore.testing import FormatContract

# The value of every code, from other sources than mtcore: torch's and ml_dtypes' own types, and published tables.
ML_DTYPES = {"e3m2": ml_dtypes.float6_e3m2fn, "e2m3": ml_dtypes.float6_e2m3fn}
TABLES = {
    "e4m3fn": torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).tolist(),
    "e5m2": torch.arange(256, dtype=torch.uint8).view(torch.float8_e5m2).tolist(),
    # OCP MX specification 1.0, table 5.
    "e2m1": [s * v for s in (1.0, -1.0) for v in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)],
    **{name: np.arange(64, dtype=np.uint8).view(dtype).astype(float).tolist() for name, dtype in ML_DTYPES.items()},
    # Dettmers et al. 2023, arXiv:2305.14314, appendix E.
    "nf4": [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
}


def stated(element_name):
    """Integers count up, then from the most negative one; a suffix q says how many bits are fraction."""
    if element_name in TABLES:
        return TABLES[element_name]
    unsigned, bits, _, fraction = re.fullmatch(r"(u?)int(\d+)(n?)(?:q(\d+))?", element_name).groups()
    size = 2 ** int(bits)
    integers = range(size) if unsigned else [*range(size // 2), *range(-size // 2, 0)]
    return [integer / 2 ** int(fraction or 0) for integer in integers]


class TestBuiltinFormats(FormatContract):
    @pytest.fixture(params=list(builtin_formats()), ids=lambda fmt: fmt.name)
    def fmt(self, request):
        return request.param

    @pytest.fixture
    def stated_values(self, fmt):
        return stated(fmt.element.name)


def scaled(element, **fields):
    return TensorFormat("bad", element, (Scale(Float32Element(), PER_TENSOR),), summary="bad", **fields)


def test_a_wrong_table_entry_is_shown():
    fmt = scaled(TableElement("quarters", (-1.0, -0.5, 0.25, 1.0)))
    message = r"codes of quarters: first differing element \[2\] is 0\.25, expected 0\.0 \(1 of 4 differ\)"
    with pytest.raises(AssertionError, match=message):
        FormatContract().test_every_code_has_the_stated_value(fmt, [-1.0, -0.5, 0.0, 1.0])


def test_a_table_without_zero_is_found():
    with pytest.raises(AssertionError, match="a matrix of zeros: first differing element"):
        FormatContract().test_zeros_stay_zeros(scaled(TableElement("odd", (-1.0, -0.5, 0.25, 1.0))))


def test_a_target_far_beyond_the_range_is_found():
    with pytest.raises(AssertionError, match="the amax lands on twice the largest value or more"):
        FormatContract().test_the_range_is_that_of_the_codes(scaled(FloatElement(2, 1), amax_to=100.0))


def test_names_that_no_recipe_can_write_are_found():
    fmt = scaled(FloatElement(2, 1))
    with pytest.raises(AssertionError, match="lower case"):
        FormatContract().test_names_can_be_written_in_a_recipe_and_are_distinct(
            dataclasses.replace(fmt, name="A b")
        )
    with pytest.raises(AssertionError, match="stands twice"):
        FormatContract().test_names_can_be_written_in_a_recipe_and_are_distinct(
            dataclasses.replace(fmt, aliases=("bad",))
        )


def test_a_rounding_that_misses_the_nearest_value_is_found(monkeypatch):
    monkeypatch.setattr("mtcore.testing.formats.round_to_element", lambda x, element: x.floor())
    with pytest.raises(AssertionError, match="nearer exists"):
        FormatContract().test_rounding_goes_to_a_nearest_value(scaled(FloatElement(3, 3)))


def test_a_fake_quantize_that_differs_is_found(monkeypatch):
    monkeypatch.setattr("mtcore.testing.formats.fake_quantize", lambda x, qparams: x)
    fmt = scaled(FloatElement(2, 1))
    with pytest.raises(AssertionError, match=r"fake_quantize of a .* matrix: first differing element"):
        FormatContract().test_fake_quantize_equals_dequantize_after_quantize(fmt, torch.float32)
    monkeypatch.setattr("mtcore.testing.formats.fake_quantize", lambda x, qparams: x.nan_to_num())
    with pytest.raises(AssertionError, match=r"nan became 0\.0; a broken tensor must show"):
        FormatContract().test_a_value_that_is_not_finite_shows_as_nan(fmt, math.nan)
