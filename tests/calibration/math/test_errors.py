"""Costs of a rounded weight equal what the data would say."""

import pytest
import torch

from mtcore.calibration.math.errors import diagonal_blocks, output_error, quadratic
from mtcore.formats import PER_ROW, Block


def test_output_error_is_the_error_of_the_outputs_over_the_data(layer):
    weight, inputs, hessian = layer()
    wanted = (inputs.double() @ weight.double().T).square().sum()
    # fp32 sums of at most n = 200·32 products: relative error under n · 2^-24.
    assert abs(output_error(weight, hessian).double() - wanted) <= 6400 * 2.0**-24 * wanted


@pytest.mark.parametrize("block", [Block(1, 16), Block(2, 8), Block(4, 24), PER_ROW], ids=str)
def test_quadratic_uses_the_own_part_of_the_hessian_of_each_block(layer, block):
    difference, _, hessian = layer()
    cost = quadratic(block, hessian)(difference)
    high, wide = block.extents(6, 32)
    assert cost.shape == block.grid(6, 32)
    for i in range(cost.shape[0]):
        for j in range(cost.shape[1]):
            rows, cols = slice(i * high, i * high + high), slice(j * wide, j * wide + wide)
            part, own = difference[rows, cols].double(), hessian[cols, cols].double()
            assert torch.allclose(cost[i, j].double(), (part @ own * part).sum(), rtol=1e-4)


def test_per_row_quadratic_costs_add_up_to_the_output_error(layer):
    difference, _, hessian = layer()
    assert torch.allclose(
        quadratic(PER_ROW, hessian)(difference).sum(), output_error(difference, hessian), rtol=1e-5
    )


def test_diagonal_blocks_fill_a_partial_last_one_with_zeros():
    parts = diagonal_blocks(torch.arange(9.0).view(3, 3), 2)
    assert parts.tolist() == [[[0.0, 1.0], [3.0, 4.0]], [[8.0, 0.0], [0.0, 0.0]]]
