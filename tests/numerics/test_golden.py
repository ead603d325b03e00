"""The published vectors are what the reference computes, and what exact arithmetic says."""

import importlib.util
import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from mtcore.formats import builtin_formats
from mtcore.numerics import unpack

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "reference" / "numerics" / "golden-vectors.json"
FORMATS = {fmt.name: fmt for fmt in builtin_formats()}


@pytest.fixture(scope="module")
def published():
    return json.loads(PUBLISHED.read_text())


def numbers(digits: str, width: int) -> list[int]:
    return [int(digits[at : at + width], 16) for at in range(0, len(digits), width)]


def floats(digits: str) -> list[Fraction]:
    bits = torch.tensor(numbers(digits, 8), dtype=torch.uint32)
    return [Fraction(value) for value in bits.view(torch.float32).tolist()]


def test_the_generator_writes_the_published_file():
    path = ROOT / "docs" / "generate" / "golden_vectors.py"
    spec = importlib.util.spec_from_file_location("golden_vectors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.build() == PUBLISHED.read_text(), "run docs/generate/golden_vectors.py"


def test_every_built_in_format_is_published_in_a_small_file(published):
    assert published["formats"].keys() == FORMATS.keys()
    assert PUBLISHED.stat().st_size < 200_000


@pytest.mark.parametrize("matrix", ["normal", "edges"])
@pytest.mark.parametrize("name", FORMATS)
def test_published_codes_and_values_are_those_of_exact_arithmetic(oracle, published, name, matrix):
    fmt, case = FORMATS[name], published["formats"][name][matrix]
    rows, cols = published["inputs"][matrix]["shape"]
    x = floats(published["inputs"][matrix]["fp32_bits"])
    outer = oracle.outer_scale(x, fmt)
    if outer is not None:
        assert floats(case["scale_2_bits"]) == [outer]
    packed = torch.tensor(list(bytes.fromhex(case["qdata"])), dtype=torch.uint8).view(rows, -1)
    codes = unpack(packed, fmt.element.bits, cols)
    values = numbers(case["values_bf16_bits"], 4)
    high, wide = fmt.block.extents(rows, cols)
    grid = fmt.block.grid(rows, cols)
    for i in range(grid[0]):
        for j in range(grid[1]):
            where = [
                r * cols + c
                for r in range(i * high, min(rows, (i + 1) * high))
                for c in range(j * wide, min(cols, (j + 1) * wide))
            ]
            expected = oracle.block([x[k] for k in where], fmt, outer)
            negative_zero = 2 ** (fmt.element.bits - 1)  # rational numbers have one zero only
            for k, code, value in zip(where, expected.codes, expected.values, strict=True):
                found = int(codes.flatten()[k])
                assert found == code or (x[k] == 0 and found == negative_zero)
                bf16 = oracle.ieee(value, oracle.precision["torch.bfloat16"])
                assert (
                    Fraction(torch.tensor(values[k] << 16, dtype=torch.uint32).view(torch.float32).item()) == bf16
                )
