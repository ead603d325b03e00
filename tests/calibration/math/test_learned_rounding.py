"""Learned rounding: distances between codes, rates that sum to the reach, and the losses."""

import pytest
import torch

from mtcore.calibration.math import (
    code_distances,
    distribution_loss,
    falling_rates,
    relative_loss,
    scaled_step,
    signed_step,
)
from mtcore.formats.catalog import FP8, INT8_TENSOR, NVFP4
from mtcore.numerics import dynamic_qparams, fake_quantize, qparams_from_amax


@pytest.mark.parametrize("fmt", [NVFP4, FP8, INT8_TENSOR], ids=lambda fmt: fmt.name)
def test_half_a_distance_is_the_most_that_rounding_changes(fmt):
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    qparams = dynamic_qparams(x, fmt)
    error = (fake_quantize(x, qparams) - x).abs()
    inside = fake_quantize(x, qparams).abs() < x.abs().max() * 0.99
    distances = code_distances(x, qparams)
    # a few roundings of fp32 on the way, each at most 2^-24 of the value
    assert bool((error <= distances / 2 + x.abs() * 2**-21)[inside].all())


def test_the_distance_of_e2m1_is_that_of_its_values_times_the_scale():
    qparams = qparams_from_amax(torch.full((1, 1), 6.0), NVFP4, torch.tensor(6.0))
    row = torch.tensor([[0.1, 0.6, 1.7, 2.5, 3.5, 5.0, -5.0, 0.0, 0, 0, 0, 0, 0, 0, 0, 0]])
    unit = float(qparams.multiplier())
    assert code_distances(row * unit, qparams)[0, :7].tolist() == [
        pytest.approx(d * unit) for d in (0.5, 0.5, 0.5, 1, 1, 2, 2)
    ]


@pytest.mark.parametrize(("reach", "steps"), [(0.5, 1), (0.5, 200), (2.0, 7)])
def test_rates_fall_and_sum_to_the_reach(reach, steps):
    rates = list(falling_rates(reach, steps))
    assert sum(rates) == pytest.approx(reach)
    assert rates == sorted(rates, reverse=True)
    assert len(rates) == steps


def test_a_step_goes_against_the_gradient_and_stays_where_there_is_none():
    values = torch.zeros(4)
    signed_step(values, torch.tensor([3.0, -0.1, 0.0, torch.nan]), torch.tensor([1.0, 2.0, 1.0, 1.0]), 0.5)
    assert values.tolist() == [-0.5, 1.0, 0.0, 0.0]


def test_a_scaled_step_is_never_longer_and_follows_the_size_of_the_gradient():
    values = torch.zeros(5)
    gradient = torch.tensor([100.0, 1.0, -2.0, 0.0, 0.0])
    scaled_step(values, gradient, torch.ones(5), 0.5)
    size = float(gradient.square().mean().sqrt())
    assert values.tolist() == pytest.approx([-0.5 * 100 / (3 * size), -0.5 / (3 * size), 1 / (3 * size), 0, 0])
    scaled_step(values := torch.zeros(100), torch.eye(100)[0], torch.ones(100), 0.5)
    assert values[0] == -0.5
    scaled_step(values := torch.zeros(2), torch.zeros(2), torch.ones(2), 0.5)
    assert values.tolist() == [0, 0]


def test_the_distribution_loss_is_the_divergence_of_the_two_distributions():
    exact, changed = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    p, q = exact.softmax(-1), changed.softmax(-1)
    wanted = (p * (p / q).log()).sum(-1).mean()
    assert float(distribution_loss(exact, changed)) == pytest.approx(float(wanted), rel=1e-5)
    assert float(distribution_loss(exact, exact)) == 0.0


def test_the_relative_loss_does_not_depend_on_the_size():
    exact = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    changed = exact + 0.1
    assert float(relative_loss(exact, changed)) == pytest.approx(float(relative_loss(8 * exact, 8 * changed)))
    assert float(relative_loss(torch.zeros(3), torch.zeros(3))) == 0.0
