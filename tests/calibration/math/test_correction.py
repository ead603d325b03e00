"""The corrected weight is the best answer to inputs that have drifted."""

import torch

from mtcore.calibration.math.correction import corrected_weight
from mtcore.calibration.math.errors import output_error


def drifted(layer):
    weight, inputs, _ = layer(tokens=400)
    changed = inputs + 0.3 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(7))
    return weight, inputs, changed, changed.T @ changed, (inputs - changed).T @ changed


def test_it_is_the_least_squares_solution(layer):
    weight, inputs, changed, hessian, drift = drifted(layer)
    wanted = torch.linalg.lstsq(changed.double(), inputs.double() @ weight.double().T).solution.T
    assert torch.allclose(corrected_weight(weight, hessian, drift, damping=1e-9).double(), wanted, atol=1e-4)


def test_without_drift_the_weight_stays(layer):
    weight, _, hessian = layer()
    assert torch.equal(corrected_weight(weight, hessian, torch.zeros_like(hessian)), weight)


def test_heavy_damping_holds_the_weight(layer):
    weight, _, _, hessian, drift = drifted(layer)
    assert torch.allclose(corrected_weight(weight, hessian, drift, damping=1e6), weight, atol=1e-4)


def test_rounding_the_corrected_weight_is_rounding_under_the_real_inputs(layer):
    """|W x - Q x̃|² and tr((Q - W') H (Q - W')ᵀ) differ by the same constant for every Q."""
    weight, inputs, changed, hessian, drift = drifted(layer)
    target = corrected_weight(weight, hessian, drift, damping=0.0).double()
    constants = []
    for digits in (0, 1):
        rounded = weight.double().round(decimals=digits)
        real = (inputs.double() @ weight.double().T - changed.double() @ rounded.T).square().sum()
        constants.append(real - output_error(rounded - target, hessian.double()))
    assert torch.allclose(constants[0], constants[1], rtol=1e-4)
