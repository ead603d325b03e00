"""Smoothing scales follow the published formula and survive dead channels."""

import pytest
import torch

from mtcore.calibration.math.smoothing import from_logs, smoothing_scales
from mtcore.errors import CalibrationError


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_scales_follow_the_formula_up_to_their_mean(alpha):
    activation, weight = torch.tensor([8.0, 2.0, 0.5]), torch.tensor([1.0, 4.0, 2.0])
    wanted = activation.double() ** alpha / weight.double() ** (1 - alpha)
    wanted = wanted / wanted.log().mean().exp()
    assert torch.allclose(smoothing_scales(activation, weight, alpha).double(), wanted, rtol=1e-5)


def test_scales_do_not_change_the_product(layer):
    weight, inputs, _ = layer()
    s = smoothing_scales(inputs.abs().amax(0), weight.abs().amax(0), 0.5)
    assert torch.allclose((inputs / s) @ (weight * s).T, inputs @ weight.T, atol=1e-4)


def test_a_dead_channel_gets_one_and_does_not_move_the_others():
    s = smoothing_scales(torch.tensor([4.0, 0.0, 1.0]), torch.tensor([1.0, 1.0, 1.0]), 0.5)
    assert s[1] == 1
    assert torch.allclose(s[[0, 2]], torch.tensor([2.0**0.5, 2.0**-0.5]))


def test_all_dead_channels_give_ones():
    assert smoothing_scales(torch.zeros(3), torch.ones(3), 0.5).tolist() == [1, 1, 1]


def test_scales_are_kept_within_the_largest_ratio():
    s = from_logs(torch.tensor([100.0, -100.0]), torch.tensor([True, True]), 8.0)
    assert torch.allclose(s, torch.tensor([8.0, 0.125]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_sizes_that_make_no_sense_are_refused(bad):
    with pytest.raises(CalibrationError, match="activation sizes"):
        smoothing_scales(torch.tensor([1.0, bad]), torch.ones(2), 0.5)
