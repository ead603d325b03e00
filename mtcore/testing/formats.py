"""FormatContract: what every number format promises."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mtcore.formats import TensorFormat
from mtcore.numerics import decode, dequantize, dynamic_qparams, encode, fake_quantize, quantize, round_to_element
from mtcore.testing.compare import assert_same_bits

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((1, 1), (3, 17), (2, 128), (130, 130), (0, 16), (3, 0))
"""Single, ragged, whole blocks, ragged in both axes, and empty."""


class FormatContract:
    """Override the fixtures `fmt` and `stated_values`.

    `stated_values` holds the value of every code, in the order of the codes' unsigned bit patterns, as the paper
    or the specification of the format states them: written down or computed from another source than `fmt`.
    """

    @pytest.fixture
    def fmt(self) -> TensorFormat:
        raise NotImplementedError("override the fixture `fmt`: the format that is tested")

    @pytest.fixture
    def stated_values(self) -> Sequence[float]:
        raise NotImplementedError("override the fixture `stated_values`: the value of every code, from its source")

    def test_names_can_be_written_in_a_recipe_and_are_distinct(self, fmt: TensorFormat) -> None:
        names = (fmt.name, *fmt.aliases)
        for name in names:
            assert re.fullmatch(r"[a-z][a-z0-9_.-]*", name), f"{name!r}: lower case, digits, _ . - only"
        assert len(set(names)) == len(names), f"a name stands twice among {names}"

    def test_the_summary_is_one_line(self, fmt: TensorFormat) -> None:
        assert fmt.summary.strip(), f"format {fmt.name!r} has no summary; listings show one line of it"
        assert "\n" not in fmt.summary, f"the summary of {fmt.name!r} has several lines"

    def test_every_code_has_the_stated_value(self, fmt: TensorFormat, stated_values: Sequence[float]) -> None:
        actual = torch.tensor(fmt.element.values, dtype=torch.float64)
        stated = torch.tensor(list(stated_values), dtype=torch.float64)
        assert_same_bits(actual, stated, f"values of the codes of {fmt.element.name}")

    def test_the_range_is_that_of_the_codes(self, fmt: TensorFormat) -> None:
        finite = [value for value in fmt.element.values if math.isfinite(value)]
        name, count = fmt.element.name, len(fmt.element.values)
        assert count == 2**fmt.element.bits, f"{name} has {count} values, but codes of {fmt.element.bits} bits"
        assert fmt.element.max == max(finite), f"{name}.max is {fmt.element.max}; its largest code {max(finite)}"
        assert fmt.element.min in finite, f"{name}.min is {fmt.element.min}, which is the value of no code"
        assert fmt.target <= 2 * fmt.element.max, "the amax lands on twice the largest value or more"

    def test_every_value_encodes_and_decodes_to_itself(self, fmt: TensorFormat) -> None:
        values = reachable(fmt)
        codes = encode(values, fmt.element)
        assert_same_bits(decode(codes, fmt.element) + 0.0, values + 0.0, "decode(encode(value))")

    def test_rounding_goes_to_a_nearest_value(self, fmt: TensorFormat) -> None:
        values = reachable(fmt).double().sort().values
        x = torch.linspace(fmt.element.min * 1.1, fmt.element.max * 1.1, 4001)
        rounded = round_to_element(x, fmt.element).double()
        distance = (x.clamp(fmt.element.min, fmt.element.max).double() - rounded).abs()
        nearest = (x.clamp(fmt.element.min, fmt.element.max).double()[:, None] - values).abs().amin(dim=1)
        worst = (distance - nearest).argmax()
        assert bool((distance <= nearest).all()), (
            f"{x[worst].item()} is rounded to {rounded[worst].item()}; a value of {fmt.element.name} "
            f"{distance[worst].item() - nearest[worst].item():.3g} nearer exists"
        )

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_fake_quantize_equals_dequantize_after_quantize(self, fmt: TensorFormat, dtype: torch.dtype) -> None:
        for shape in SHAPES:
            x = sample(shape, dtype)
            qparams = dynamic_qparams(x, fmt)
            fake = fake_quantize(x, qparams)
            assert_same_bits(fake, dequantize(quantize(x, qparams)), f"fake_quantize of a {shape} matrix")
            assert (fake.shape, fake.dtype) == (x.shape, x.dtype), "fake_quantize keeps shape and dtype"

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_value_that_is_not_finite_shows_as_nan(self, fmt: TensorFormat, bad: float) -> None:
        x = sample((3, 128), torch.float32)
        x[1, 5] = bad
        qparams = dynamic_qparams(x, fmt)
        fake = fake_quantize(x, qparams)
        assert bool(fake[1, 5].isnan()), f"{bad} became {fake[1, 5].item()}; a broken tensor must show"
        assert_same_bits(fake, dequantize(quantize(x, qparams)), f"fake_quantize of a matrix with {bad}")

    def test_zeros_stay_zeros(self, fmt: TensorFormat) -> None:
        zeros = torch.zeros(3, 130)
        fake = fake_quantize(zeros, dynamic_qparams(zeros, fmt))
        assert_same_bits(fake + 0.0, zeros, "a matrix of zeros")

    def test_there_is_one_scale_a_block(self, fmt: TensorFormat) -> None:
        x = sample((130, 130), torch.float32)
        found, grid = tuple(dynamic_qparams(x, fmt).scale.shape), fmt.block.grid(130, 130)
        assert found == grid, f"scales of shape {found} for blocks of {fmt.block} on a 130x130 matrix: not {grid}"


def reachable(fmt: TensorFormat) -> Tensor:
    """The values that rounding can give, fp32, by code: a narrow integer leaves its most negative code out."""
    values = torch.tensor(fmt.element.values, dtype=torch.float64)
    return values[values.isfinite() & (values >= fmt.element.min)].float()


def sample(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """A seeded matrix with small, large, subnormal and zero values of both signs; its second row is zeros."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    flat = x.view(-1)
    for place, value in enumerate((0.0, -0.0, 1e-7, -6e-5, 1e-40, 3e4, -2e4)):
        flat[11 * place : 11 * place + 1] = value
    x[1:2] = 0.0
    return x.to(dtype)
