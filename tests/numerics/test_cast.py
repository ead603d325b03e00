"""Casts, compared with ml_dtypes on every bf16 value, every midpoint and its neighbours."""

import ml_dtypes
import numpy as np
import pytest
import torch

from mtcore.formats import IntElement, TableElement
from mtcore.formats.element import E2M1, E2M3, E3M2, E4M3, E5M2, INT8
from mtcore.numerics import decode, encode, round_to_element

ML = {
    E4M3: ml_dtypes.float8_e4m3fn,
    E5M2: ml_dtypes.float8_e5m2,
    E2M1: ml_dtypes.float4_e2m1fn,
    E3M2: ml_dtypes.float6_e3m2fn,
    E2M3: ml_dtypes.float6_e2m3fn,
}
QUARTERS = TableElement("quarters", (-1.0, -0.25, 0.0, 0.5))


def probes(element) -> torch.Tensor:
    """All bf16 values, and every midpoint of neighbouring element values with its fp32 neighbours."""
    bf16 = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16).float()
    grid = np.array(sorted({v for v in element.values if np.isfinite(v)}), dtype=np.float32)
    middle = (grid[1:].astype(np.float64) + grid[:-1]).astype(np.float32) / 2
    near = [middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf)), grid]
    return torch.cat([bf16, *map(torch.from_numpy, near)])


def bits(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.isnan(), torch.tensor(0x7FC00000, dtype=torch.int32), x.view(torch.int32))


@pytest.mark.parametrize("element", ML, ids=lambda e: e.name)
def test_rounding_agrees_with_ml_dtypes_after_saturation(element):
    x = probes(element)
    x = x if element.bits == 8 else x[~x.isnan()]
    clamped = x.clamp(element.min, element.max)
    with np.errstate(invalid="ignore"):  # NaN
        theirs = torch.from_numpy(clamped.numpy().astype(ML[element]).astype(np.float32))
    ours = round_to_element(x.clone(), element)
    if element.bits < 8:  # an input of -0.0 becomes +0.0 here, by definition
        theirs = torch.where(x == 0, 0.0, theirs)
    assert torch.equal(bits(ours), bits(theirs))


@pytest.mark.parametrize(
    "element", [*ML, INT8, IntElement(4), IntElement(3, signed=False), QUARTERS], ids=lambda e: e.name
)
def test_decoding_the_code_gives_the_rounded_value_bit_for_bit(element):
    x = probes(element)
    assert torch.equal(
        bits(decode(encode(x.clone(), element), element)), bits(round_to_element(x.clone(), element))
    )


@pytest.mark.parametrize("element", [*ML, IntElement(4), IntElement(2), QUARTERS], ids=lambda e: e.name)
def test_every_finite_code_is_its_own_rounding(element):
    codes = [code for code, value in enumerate(element.values) if np.isfinite(value) and not (value == 0 and code)]
    x = torch.tensor([element.values[code] for code in codes])
    assert encode(x, element).view(torch.uint8).tolist() == codes


@pytest.mark.parametrize("element", [E4M3, E2M1, INT8, E5M2], ids=lambda e: e.name)
def test_infinity_saturates(element):
    x = torch.tensor([torch.inf, -torch.inf])
    assert round_to_element(x, element).tolist() == [element.max, element.min]


def test_nan_stays_where_there_is_one_and_is_zero_elsewhere():
    nan = torch.tensor([torch.nan])
    assert round_to_element(nan.clone(), E4M3).isnan().all()
    for element in (E2M1, INT8, QUARTERS):
        assert bits(round_to_element(nan.clone(), element)).item() == 0


def test_the_input_is_left_as_it_was():
    for element in (E4M3, E2M1, INT8, QUARTERS):
        x = torch.linspace(-9, 9, 50)
        before = x.clone()
        round_to_element(x, element)
        encode(x, element)
        assert torch.equal(x, before)


def test_ties_in_a_code_book_go_to_the_even_index():
    assert encode(torch.tensor([-0.625, -0.125, 0.25]), QUARTERS).tolist() == [0, 2, 2]
