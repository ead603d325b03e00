"""Power-of-two scales, compared with exact rational arithmetic."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch

from mtcore.errors import FormatError
from mtcore.formats import Block, PowerOfTwoElement, Scale
from mtcore.formats.element import E4M3, E8M0, FP32
from mtcore.numerics.powers import decode_powers, power_of_two_codes

BLOCK = Block(1, 32)
TARGETS = {"e4m3": 448.0, "e5m2": 57344.0, "e2m1": 6.0, "e2m3": 7.5, "e3m2": 28.0, "mxint8": 127 / 64}


def probes(target: float) -> torch.Tensor:
    """Powers of two, their multiples by the target and by the carry thresholds, and the fp32 neighbours of all."""
    powers = np.ldexp(1.0, np.arange(-149, 128))
    centres = np.concatenate([powers * factor for factor in (1.0, target, 1.5, 1.75, 1.9375)])
    centres = centres[centres <= np.finfo(np.float32).max].astype(np.float32)
    near = [centres, np.nextafter(centres, np.float32(np.inf)), np.nextafter(centres, np.float32(0))]
    rng = np.random.default_rng(0)
    spread = rng.integers(1, 0x7F800000, 3000).astype(np.int32).view(np.float32)
    every = np.concatenate([*near, spread])
    return torch.from_numpy(every[np.isfinite(every) & (every > 0)])


def floor_log2(value: Fraction) -> int:
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    return exponent if value >= Fraction(2) ** exponent else exponent - 1


def exact_code(amax: float, target: float, rule: str, round_up_from: float) -> int:
    value = Fraction(amax)
    if rule == "up":  # the quotient is an fp32 number by definition
        ratio = Fraction(float(np.float32(amax) / np.float32(target)))
        if ratio == 0:
            return 0
        exponent = floor_log2(ratio)
        exponent += Fraction(2) ** exponent < ratio
    else:
        exponent = floor_log2(value)
        exponent += rule == "half_up" and value / Fraction(2) ** exponent >= Fraction(round_up_from)
        exponent -= floor_log2(Fraction(target))
    return min(max(exponent + 127, 0), 254)


RULES = [("up", 1.75), ("floor", 1.75), ("half_up", 1.75), ("half_up", 1.9375)]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize(("rule", "round_up_from"), RULES)
def test_every_rule_agrees_with_exact_arithmetic(target, rule, round_up_from):
    amax = probes(target)
    codes = power_of_two_codes(amax, target, Scale(E8M0, BLOCK, rounding=rule, round_up_from=round_up_from))
    if (
        rule == "half_up" and target < 2
    ):  # there the bits of a subnormal amax reach the code, and round by themselves
        codes, amax = codes[amax >= 2.0**-126], amax[amax >= 2.0**-126]
    with np.errstate(under="ignore"):
        expected = [exact_code(value, target, rule, round_up_from) for value in amax.tolist()]
    assert codes.tolist() == expected


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_rounding_up_never_lets_a_block_maximum_saturate_beyond_the_quotients_rounding(target):
    amax = probes(target)
    amax = amax[(amax >= 2.0**-100) & (amax <= 2.0**126)]  # the ends have no exponent left
    scale = decode_powers(power_of_two_codes(amax, target, Scale(E8M0, BLOCK, rounding="up")), E8M0)
    # amax / target is rounded once, by at most half a unit of fp32: 2^-24 relative
    assert (amax.double() / scale.double() <= target * (1 + 2.0**-24)).all()
    assert (amax.double() / scale.double() > target / 2 * (1 - 2.0**-24)).all()


def test_zero_gives_the_zero_block_scale_and_what_is_not_finite_gives_nan():
    amax = torch.tensor([0.0, torch.inf, torch.nan])
    assert power_of_two_codes(amax, 6.0, Scale(E8M0, BLOCK, rounding="up")).tolist() == [127, 255, 255]
    level = Scale(E8M0, BLOCK, rounding="up", zero_block=2.0**-127)
    assert power_of_two_codes(amax, 6.0, level).tolist() == [0, 255, 255]


def test_every_code_decodes_to_the_value_that_ml_dtypes_gives():
    codes = np.arange(256, dtype=np.uint8)
    theirs = codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    np.testing.assert_array_equal(decode_powers(torch.from_numpy(codes), E8M0).numpy(), theirs)


def test_smaller_exponents_have_their_own_bias_and_range():
    element = PowerOfTwoElement(4)
    level = Scale(element, BLOCK, rounding="floor")
    codes = power_of_two_codes(torch.tensor([1.0, 2.0**-30, 2.0**30, torch.nan]), 1.0, level)
    assert codes.tolist() == [7, 0, 14, 15]
    assert decode_powers(codes, element).tolist()[:3] == [1.0, 2.0**-7, 2.0**7]


@pytest.mark.parametrize(("element", "rounding"), [(E8M0, "nearest"), (E4M3, "up"), (FP32, "floor")])
def test_a_rule_that_the_element_does_not_have_is_refused(element, rounding):
    with pytest.raises(FormatError, match=f"{element.name} rounded '{rounding}'"):
        Scale(element, BLOCK, rounding=rounding)
