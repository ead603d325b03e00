"""The AWQ search judges scales as the data would, and never does worse than none."""

import pytest
import torch

from mtcore.calibration.math.awq import awq_scales, product_error, search_scales, weight_error
from mtcore.numerics import dynamic_qparams, fake_quantize


@pytest.fixture
def rounding(formats):
    return lambda x: fake_quantize(x, dynamic_qparams(x, formats["int4_b32"]))


@pytest.fixture
def uneven(layer):
    """A layer one of whose input channels is far larger than the rest."""
    weight, inputs, _ = layer(16, 64)
    inputs[:, 5] *= 30
    return weight, inputs, inputs.T @ inputs


def grid(magnitude):
    return [(a / 10, awq_scales(magnitude, a / 10)) for a in range(1, 11)]


def test_the_error_without_data_is_the_error_over_the_data(uneven, rounding):
    weight, inputs, hessian = uneven
    s = awq_scales(inputs.abs().mean(0), 0.5)
    rounded = rounding(weight * s) / s
    wanted = (inputs.double() @ (rounded - weight).double().T).square().sum()
    assert torch.allclose(weight_error(hessian)(weight, rounding, s).double(), wanted, rtol=1e-3)


def test_the_winner_has_the_least_error_of_all_candidates(uneven, rounding):
    weight, inputs, hessian = uneven
    error = weight_error(hessian)
    candidates = grid(inputs.abs().mean(0))
    found = search_scales([(weight, rounding)], candidates, error)
    errors = [float(error(weight, rounding, s)) for _, s in candidates]
    assert found.error == min([*errors, found.unscaled_error])
    assert found.error < 0.7 * found.unscaled_error
    assert torch.equal(found.scales, dict(candidates)[found.alpha])


def test_scales_that_only_hurt_are_not_taken(layer, rounding):
    weight, _, hessian = layer(16, 64)
    bad = torch.ones(64)
    bad[::2] = 1e4
    found = search_scales([(weight, rounding)], [(1.0, bad)], weight_error(hessian))
    assert found.scales.tolist() == [1] * 64
    assert found.error == found.unscaled_error


def test_a_candidate_that_gives_nan_never_wins(layer, rounding):
    weight, _, hessian = layer(4, 32)
    found = search_scales([(weight, rounding)], [(0.5, torch.full((32,), torch.nan))], weight_error(hessian))
    assert found.alpha == 0


def test_layers_that_read_one_input_are_judged_together(uneven, rounding):
    weight, inputs, hessian = uneven
    error, candidates = weight_error(hessian), grid(inputs.abs().mean(0))
    layers = [(weight, rounding), (weight.flip(1).contiguous(), rounding)]
    found = search_scales(layers, candidates, error)
    both = [sum(float(error(w, q, s)) for w, q in layers) for _, s in candidates]
    assert found.error == pytest.approx(min([*both, found.unscaled_error]), rel=1e-6)


def test_product_error_without_any_rounding_is_nothing(uneven):
    weight, inputs, _ = uneven
    s = awq_scales(inputs.abs().mean(0), 0.5)
    exact = product_error(inputs, lambda x: x)(weight, lambda w: w, s)
    assert exact / (inputs @ weight.T).square().sum() < 1e-11  # (64 · 2^-24)² bounds the relative fp32 error


def test_product_error_counts_the_rounding_of_the_inputs(uneven, rounding):
    weight, inputs, _ = uneven
    ones = torch.ones(64)
    assert product_error(inputs, rounding)(weight, lambda w: w, ones) > 0


def test_a_channel_that_is_never_used_gets_one():
    assert awq_scales(torch.tensor([0.0, 4.0, 1.0]), 0.5)[0] == 1
