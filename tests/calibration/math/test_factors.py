"""Factors are exact inverses, and bad statistics are refused in words."""

import pytest
import torch

from mtcore.calibration.math.factors import damped, inverse_factor, solve
from mtcore.errors import CalibrationError


def test_the_factor_gives_the_inverse(layer):
    hessian = layer()[2]
    factor = inverse_factor(hessian, 0.01)
    assert torch.equal(factor, factor.triu())
    assert torch.allclose(factor.T @ factor @ damped(hessian, 0.01), torch.eye(32, dtype=torch.float64), atol=1e-9)


def test_solve_is_the_inverse_times_the_right_side(layer):
    weight, _, hessian = layer()
    assert torch.allclose(damped(hessian, 0.1) @ solve(hessian, weight.T, 0.1), weight.T.double(), atol=1e-8)


def test_a_column_without_data_gets_the_mean():
    assert damped(torch.diag(torch.tensor([4.0, 0.0])), 0.0).diagonal().tolist() == [4.0, 2.0]


def test_a_rank_deficient_hessian_is_damped_until_it_can_be_factored():
    x = torch.ones(1, 4)
    assert inverse_factor(x.T @ x, 0.0).isfinite().all()


@pytest.mark.parametrize(
    ("hessian", "words"),
    [
        (torch.full((2, 2), torch.nan), "NaN or infinite"),
        (torch.zeros(2, 2), "zero throughout"),
        (torch.tensor([[1.0, 9.0], [9.0, 1.0]]), "positive semidefinite"),
    ],
)
def test_statistics_that_cannot_be_used_are_refused(hessian, words):
    with pytest.raises(CalibrationError, match=words):
        inverse_factor(hessian, 0.01)
