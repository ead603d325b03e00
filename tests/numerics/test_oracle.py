"""Every format's scales, codes and values, compared with exact rational arithmetic."""

import itertools
from fractions import Fraction

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mtcore.formats import builtin_formats
from mtcore.numerics import dequantize, dynamic_qparams, quantize, unpack

FORMATS = list(builtin_formats())
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# The oracle has no infinities: nothing may overflow, and in float16 nothing may round to infinity.
NUMBERS = st.floats(-30000, 30000, width=32) | st.sampled_from(
    [0.0, 1.0, -1.0, 0.5, 0.25, 0.75, 2.5, 5.0, 6.0, -6.0, 7.0, 127.0, 448.0, 1e-45, -1e-45, 1e-39, 6e-8, -1e-20]
)


@st.composite
def matrices(draw):
    rows, cols = draw(st.integers(1, 2)), draw(st.integers(1, 70))
    pattern = draw(st.lists(NUMBERS, min_size=1, max_size=9))
    numbers = list(itertools.islice(itertools.cycle(pattern), rows * cols))
    return torch.tensor(numbers).view(rows, cols)


def fractions(x: torch.Tensor) -> list[Fraction]:
    return [Fraction(number) for number in x.double().flatten().tolist()]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@given(x=matrices(), dtype=st.sampled_from(DTYPES))
@example(x=torch.tensor([[-1.0, 1.0, 0.0, 0.5, -7.5, 7.5]]), dtype=torch.float32)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_scales_codes_and_values_are_those_of_exact_arithmetic(oracle, fmt, x, dtype):
    x = x.to(dtype) + 0.0  # rational numbers have one zero
    q = quantize(x, dynamic_qparams(x, fmt))
    outer = oracle.outer_scale(fractions(x), fmt)
    if outer is not None:
        assert Fraction(q.qparams.scale_2.item()) == outer
    inner = q.qparams.multiplier() if outer is None or fmt.via is not None else q.qparams.scale.float()
    codes = unpack(q.qdata, fmt.element.bits, q.cols).view(torch.uint8)
    values = dequantize(q)
    where = fmt.block.extents(*x.shape)
    for i, j in itertools.product(*map(range, fmt.block.grid(*x.shape))):
        part = slice(i * where[0], (i + 1) * where[0]), slice(j * where[1], (j + 1) * where[1])
        expected = oracle.block(fractions(x[part]), fmt, outer)
        assert Fraction(inner[i, j].item()) == expected.scale
        if expected.zero_point is not None:
            assert q.qparams.zero_point[i, j] == expected.zero_point
        assert codes[part].flatten().tolist() == expected.codes
        rounded = [oracle.ieee(value, oracle.precision[str(dtype)]) for value in expected.values]
        assert fractions(values[part]) == rounded


def test_the_oracle_rounds_like_python_does(oracle):
    for number in (0.1, 1 / 3, 1e-40, 65504.0, 2.0**-24):
        single = torch.tensor(number, dtype=torch.float64)
        assert oracle.ieee(Fraction(number)) == Fraction(single.float().item())
        assert oracle.ieee(Fraction(number), (7, -126, 127)) == Fraction(single.to(torch.bfloat16).item())
