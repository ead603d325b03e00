"""The bit form of small floats, on every element that another library knows, those that torch stores included."""

import ml_dtypes
import numpy as np
import pytest
import torch

from mtcore.formats import FloatElement
from mtcore.formats.element import E2M1, E2M3, E3M2, E4M3, E5M2
from mtcore.numerics.cast import NATIVE_FLOATS
from mtcore.numerics.minifloat import decode_minifloat, encode_minifloat, round_minifloat

ML = {
    E4M3: ml_dtypes.float8_e4m3fn,
    E5M2: ml_dtypes.float8_e5m2,
    E2M1: ml_dtypes.float4_e2m1fn,
    E3M2: ml_dtypes.float6_e3m2fn,
    E2M3: ml_dtypes.float6_e2m3fn,
    FloatElement(3, 4, specials="ieee"): ml_dtypes.float8_e3m4,
    FloatElement(4, 3, specials="ieee"): ml_dtypes.float8_e4m3,
}


def all_bf16() -> torch.Tensor:
    return torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16).float()


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    nan = left.isnan()
    signs = torch.equal(left[~nan].signbit(), right[~nan].signbit())
    return signs and torch.equal(nan, right.isnan()) and torch.equal(left[~nan], right[~nan])


@pytest.mark.parametrize("element", ML, ids=lambda e: f"{e.name}-{e.specials}")
def test_rounding_every_bf16_value_agrees_with_ml_dtypes_after_saturation(element):
    x = all_bf16()
    x = x if element.specials != "none" else x[~x.isnan()]
    with np.errstate(invalid="ignore"):  # NaN
        theirs = x.clamp(element.min, element.max).numpy().astype(ML[element])
    assert same(round_minifloat(x, element), torch.from_numpy(theirs.astype(np.float32)))
    known = ~x.isnan()
    codes = encode_minifloat(x, element)
    assert torch.equal(codes[known], torch.from_numpy(theirs.view(np.uint8))[known])


@pytest.mark.parametrize("element", ML, ids=lambda e: f"{e.name}-{e.specials}")
def test_every_code_decodes_to_its_value_and_back(element):
    codes = torch.arange(2**element.bits, dtype=torch.uint8)
    values = decode_minifloat(codes, element)
    assert same(values, torch.tensor(element.values))
    finite = values.isfinite()
    assert torch.equal(encode_minifloat(values[finite], element), codes[finite])


@pytest.mark.parametrize("element", [e for e in ML if e.specials != "none"], ids=lambda e: f"{e.name}-{e.specials}")
def test_nan_is_encoded_as_a_nan(element):
    codes = encode_minifloat(torch.tensor([torch.nan, torch.inf]), element)
    assert decode_minifloat(codes, element).isnan().tolist() == [True, False]


@pytest.mark.parametrize("element", NATIVE_FLOATS, ids=lambda e: e.name)
def test_the_bit_form_equals_torchs_own_cast(element):
    x = all_bf16()
    x = torch.cat([x, torch.randn(10000, generator=torch.Generator().manual_seed(0)) * 100])
    known = ~x.isnan()
    native = x.clamp(element.min, element.max).to(NATIVE_FLOATS[element])
    assert torch.equal(encode_minifloat(x, element)[known], native.view(torch.uint8)[known])
    assert same(round_minifloat(x, element), native.float())


def test_unsigned_elements_have_one_bit_less():
    element = FloatElement(2, 1, signed=False)
    codes = torch.arange(8, dtype=torch.uint8)
    assert decode_minifloat(codes, element).tolist() == list(element.values)
    assert torch.equal(encode_minifloat(torch.tensor(element.values), element), codes)
    assert round_minifloat(torch.tensor([-5.0, -0.2, 5.1]), element).tolist() == [0.0, 0.0, 6.0]
    assert encode_minifloat(torch.tensor([-5.0, 5.1]), element).tolist() == [0, 7]
