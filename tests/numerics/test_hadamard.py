"""Hadamard products are orthonormal, invertible and as the matrix says."""

import pytest
import torch

from mtcore.errors import FormatError
from mtcore.nn.rotation import Rotation
from mtcore.numerics.hadamard import block_hadamard, hadamard_transform, largest_hadamard_block

SIZES = [1, 2, 8, 12, 20, 24, 28, 36, 40, 44, 60, 96, 108, 112, 160, 768, 5120]


@pytest.mark.parametrize("n", SIZES)
def test_the_matrix_is_of_signs_and_orthonormal(n):
    n = min(n, 768)
    matrix = hadamard_transform(torch.eye(n, dtype=torch.float64))
    assert torch.allclose(matrix.abs(), torch.full((n, n), n**-0.5, dtype=torch.float64), rtol=1e-12)
    assert torch.allclose(matrix @ matrix.T, torch.eye(n, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_the_inverse_gives_the_input_back(n):
    x = torch.randn(3, n, dtype=torch.float64)
    assert torch.allclose(hadamard_transform(hadamard_transform(x), inverse=True), x, atol=1e-12)


@pytest.mark.parametrize("n", [16, 64, 1024])
def test_the_inverse_is_exact_where_no_rounding_happens(n):
    """Sums of n integers below 2^8 are exact in fp32, and sqrt(n) is a power of two."""
    x = torch.randint(-256, 256, (4, n), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(hadamard_transform(hadamard_transform(x), inverse=True), x)


def test_blocks_are_rotated_each_on_its_own():
    x = torch.randn(2, 24)
    expected = torch.cat([hadamard_transform(part) for part in x.split(8, dim=-1)], dim=-1)
    assert torch.equal(block_hadamard(x, 8), expected)
    assert torch.allclose(Rotation(8).backward(Rotation(8).forward(x)), x, atol=1e-6)


def test_a_size_without_a_matrix_names_the_block_that_would_do():
    with pytest.raises(FormatError, match=r"no Hadamard matrix of size 11008 is known here; .* blocks of 256"):
        hadamard_transform(torch.zeros(1, 11008))
    with pytest.raises(FormatError, match="does not divide"):
        block_hadamard(torch.zeros(1, 24), 16)
    assert largest_hadamard_block(7) == 1
