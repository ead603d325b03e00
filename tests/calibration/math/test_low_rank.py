"""The low-rank split adds up, and is the best of its rank."""

import pytest
import torch

from mtcore.calibration.math.errors import output_error
from mtcore.calibration.math.factors import damped
from mtcore.calibration.math.low_rank import low_rank_split


@pytest.mark.parametrize("weighted", [False, True])
def test_the_parts_add_up(layer, weighted):
    weight, _, hessian = layer(20, 32)
    split = low_rank_split(weight, 4, hessian if weighted else None)
    assert split.up.shape == (20, 4)
    assert split.down.shape == (4, 32)
    assert torch.allclose(split.rest + split.up @ split.down, weight, atol=1e-5)


def test_without_statistics_the_rest_is_what_the_singular_values_leave(layer):
    weight, _, _ = layer(20, 32)
    left = torch.linalg.svdvals(weight.double())[4:].square().sum()
    assert torch.allclose(low_rank_split(weight, 4).rest.double().square().sum(), left, rtol=1e-5)


def test_with_statistics_the_rest_costs_least_in_the_outputs(layer):
    weight, _, hessian = layer(20, 32)
    exact = damped(hessian, 0.01)
    lower = torch.linalg.cholesky(exact)
    bound = torch.linalg.svdvals(weight.double() @ lower)[4:].square().sum()
    found = output_error(low_rank_split(weight, 4, hessian).rest.double(), exact)
    assert torch.allclose(found, bound, rtol=1e-5)
    assert found < output_error(low_rank_split(weight, 4).rest.double(), exact)


def test_a_rank_beyond_the_weight_leaves_nothing(layer):
    weight, _, _ = layer(4, 8)
    assert low_rank_split(weight, 99).rest.abs().max() < 1e-6


def test_a_rank_below_one_is_refused(layer):
    with pytest.raises(ValueError, match="rank 0"):
        low_rank_split(layer()[0], 0)


@pytest.mark.parametrize("shape", [(20, 32), (32, 20), (16, 16)])
def test_both_factors_carry_half_of_every_value(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    split = low_rank_split(weight, 4)
    values = torch.linalg.svdvals(weight.double())[:4].float()
    torch.testing.assert_close(split.up.square().sum(0), values)
    torch.testing.assert_close(split.down.square().sum(1), values)


def test_a_weight_of_lower_rank_leaves_nothing_and_no_nan():
    weight = torch.outer(torch.arange(6.0), torch.ones(8))
    split = low_rank_split(weight, 3)
    assert split.rest.abs().max() < 1e-6
    assert split.up.isfinite().all()
    assert split.down.isfinite().all()
