"""The AWQ candidates are the published scales, and they are judged as the data would."""

import pytest
import torch

from mtcore.calibration.math.awq import awq_scales, product_errors, scale_candidates
from mtcore.calibration.math.smoothing import smoothing_scales
from mtcore.numerics import dynamic_qparams, fake_quantize


@pytest.fixture
def rounding(formats):
    def each(matrices):
        return torch.stack([fake_quantize(x, dynamic_qparams(x, formats["int4_b32"])) for x in matrices])

    return each


@pytest.fixture
def uneven(layer):
    """A layer one of whose input channels is far larger than the rest."""
    weight, inputs, _ = layer(16, 64)
    inputs[:, 5] *= 30
    return weight, inputs


def unrounded(x):
    return x


def test_the_candidates_are_no_scales_and_those_of_awq_and_smoothquant(uneven):
    weight, inputs = uneven
    inputs[:, 9] = 0  # a channel that is never used
    mean, amax, size = inputs.abs().mean(0), inputs.abs().amax(0), weight.abs().amax(0)
    alphas, scales = scale_candidates(mean, amax, size, 4)
    assert torch.equal(scales[0], torch.ones(64))
    wanted = [awq_scales(mean, a) for a in (0.25, 0.5, 0.75, 1.0)]
    wanted += [smoothing_scales(amax, size, a) for a in (0.25, 0.5, 0.75, 1.0)]
    # logs of up to ~70 (1e-30) are off by 2^-17, and exp carries that over as a relative error
    assert torch.allclose(scales[1:], torch.stack(wanted), rtol=2**-15, atol=0)
    assert alphas.tolist() == [0, 0.25, 0.5, 0.75, 1.0, 0.25, 0.5, 0.75, 1.0]


def test_the_errors_of_several_scales_are_those_of_each_alone(uneven, rounding):
    weight, inputs = uneven
    scales = torch.stack([awq_scales(inputs.abs().mean(0), alpha) for alpha in (0.0, 0.5, 1.0)])
    together = product_errors(weight, scales, inputs, rounding, rounding)
    for one, error in zip(scales, together, strict=True):
        rounded = rounding((inputs / one)[None])[0].double() @ rounding((weight * one)[None])[0].double().T
        wanted = (rounded - inputs.double() @ weight.double().T).square().sum()
        assert float(error) == pytest.approx(float(wanted), rel=1e-3)  # a difference of two fp32 products
    assert together.argmin() == 1


def test_without_any_rounding_there_is_no_error(uneven):
    weight, inputs = uneven
    scales = awq_scales(inputs.abs().mean(0), 0.5)[None]
    exact = product_errors(weight, scales, inputs, unrounded, unrounded)
    assert exact / (inputs @ weight.T).square().sum() < 1e-11  # (64 · 2^-24)² bounds the relative fp32 error


def test_the_rounding_of_the_inputs_counts(uneven, rounding):
    weight, inputs = uneven
    assert product_errors(weight, torch.ones(1, 64), inputs, unrounded, rounding) > 0


def test_inputs_that_are_not_rounded_need_no_product_of_their_own(uneven, rounding):
    weight, inputs = uneven
    scales = torch.stack([awq_scales(inputs.abs().mean(0), alpha) for alpha in (0.2, 0.5)])
    one = product_errors(weight, scales, inputs, rounding, None)
    other = product_errors(weight, scales, inputs, rounding, unrounded)
    assert torch.allclose(one, other, rtol=1e-3)  # the same number, as a difference of two fp32 products
