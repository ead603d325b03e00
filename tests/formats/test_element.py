"""Every code of every element type, against two independent libraries."""

import math

import gfloat
import ml_dtypes
import numpy as np
import pytest
from gfloat import formats as gf

from mtcore.formats import FloatElement, IntElement, TableElement
from mtcore.formats.element import E2M1, E2M3, E3M2, E4M3, E5M2, E8M0, INT8

ML = {
    E4M3: ml_dtypes.float8_e4m3fn,
    E5M2: ml_dtypes.float8_e5m2,
    E2M1: ml_dtypes.float4_e2m1fn,
    E3M2: ml_dtypes.float6_e3m2fn,
    E2M3: ml_dtypes.float6_e2m3fn,
    E8M0: ml_dtypes.float8_e8m0fnu,
}
GF = {
    E4M3: gf.format_info_ocp_e4m3,
    E5M2: gf.format_info_ocp_e5m2,
    E2M1: gf.format_info_ocp_e2m1,
    E3M2: gf.format_info_ocp_e3m2,
    E2M3: gf.format_info_ocp_e2m3,
    E8M0: gf.format_info_ocp_e8m0,
}


def same(left: float, right: float) -> bool:
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    return left == right and math.copysign(1, left) == math.copysign(1, right)


@pytest.mark.parametrize("element", ML, ids=lambda e: e.name)
def test_every_code_has_the_value_that_ml_dtypes_gives(element):
    codes = np.arange(2**element.bits, dtype=np.uint8).view(ML[element])
    assert all(same(ours, float(theirs)) for ours, theirs in zip(element.values, codes, strict=True))


@pytest.mark.parametrize("element", GF, ids=lambda e: e.name)
def test_every_code_has_the_value_that_gfloat_gives(element):
    for code, ours in enumerate(element.values):
        assert same(ours, gfloat.decode_float(GF[element], code).fval), code


@pytest.mark.parametrize("element", ML, ids=lambda e: e.name)
def test_derived_limits_agree_with_ml_dtypes(element):
    info = ml_dtypes.finfo(ML[element])
    assert element.max == float(info.max)
    if isinstance(element, FloatElement):
        assert element.smallest_normal == float(info.smallest_normal)
        assert element.smallest_subnormal == float(info.smallest_subnormal)


def test_a_narrow_integer_leaves_out_its_most_negative_code():
    assert (INT8.min, INT8.max) == (-127.0, 127.0)
    assert IntElement(8).min == -128.0


def test_integers_decode_as_twos_complement():
    assert IntElement(4).values == (*range(8), *range(-8, 0))
    assert IntElement(3, signed=False).values == tuple(range(8))


@pytest.mark.parametrize("table", [(0.0,), (0.0, 1.0, 2.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_code_book_that_is_no_power_of_two_or_does_not_ascend_is_refused(table):
    with pytest.raises(ValueError, match="code book 'bad'"):
        TableElement("bad", table)
