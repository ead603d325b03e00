"""Coordinate descent finds the best code of each column, and never makes a weight worse."""

import pytest
import torch

from mtcore.calibration.math.descent import descend
from mtcore.calibration.math.errors import output_error
from mtcore.calibration.math.gptq import gptq
from mtcore.errors import CalibrationError
from mtcore.numerics import block_amax, dynamic_qparams, fake_quantize, qparams_from_amax, tensor_amax

NAMES = ["int4_b32", "nvfp4", "mxfp4", "int8_row", "nf4"]


def by_loops(rounded, weight, hessian, values):
    """One pass in fp64: for each value the best of all codes, the others held."""
    work, target, exact = rounded.double().clone(), weight.double(), hessian.double()
    for j in range(weight.shape[1]):
        for i in range(weight.shape[0]):
            costs = []
            for value in values(i, j):
                work[i, j] = value
                d = work[i] - target[i]
                costs.append((float(d @ exact @ d), value))
            work[i, j] = min(costs)[1]
    return work


def test_one_pass_equals_trying_every_code(formats, layer):
    fmt = formats["int4_b32"]
    weight, _, hessian = layer(3, 40)
    qparams = dynamic_qparams(weight, fmt)
    start = fake_quantize(weight, qparams)

    def codes(i, j):
        return [code * float(qparams.scale[i, j // 32]) for code in range(-8, 8)]

    found = descend(start, weight, hessian, qparams, passes=1, step=16)
    wanted = by_loops(start, weight, hessian, codes)
    # fp32 against fp64 may tip a tie; a value that differs then costs the same.
    assert (found.double() - wanted).abs().gt(1e-4).float().mean() <= 0.02


@pytest.mark.parametrize("name", NAMES)
def test_it_lowers_the_error_of_plain_rounding(formats, layer, name):
    fmt = formats[name]
    weight, _, hessian = layer(16, 64)
    qparams = dynamic_qparams(weight, fmt)
    plain = fake_quantize(weight, qparams)
    found = descend(plain, weight, hessian, qparams)
    assert torch.equal(fake_quantize(found, qparams), found)
    assert output_error(found - weight, hessian) < 0.9 * output_error(plain - weight, hessian)


@pytest.mark.parametrize("name", NAMES)
def test_it_never_makes_gptq_worse(formats, layer, name):
    fmt = formats[name]
    weight, _, hessian = layer(16, 64)
    outer = tensor_amax(weight) if fmt.outer is not None else None
    start = gptq(weight, hessian, fmt, block_amax(weight, fmt.block), outer)
    found = descend(start.weight, weight, hessian, qparams_from_amax(start.amax, fmt, outer))
    assert output_error(found - weight, hessian) <= output_error(start.weight - weight, hessian) * (1 + 1e-5)


def test_a_column_without_data_stays(formats, layer):
    fmt = formats["int4_b32"]
    weight, inputs, _ = layer(4, 32)
    inputs[:, 3] = 0
    qparams = dynamic_qparams(weight, fmt)
    start = fake_quantize(weight, qparams)
    assert torch.equal(descend(start, weight, inputs.T @ inputs, qparams)[:, 3], start[:, 3])


def test_statistics_that_are_not_finite_are_refused(formats, layer):
    weight = layer(4, 32)[0]
    qparams = dynamic_qparams(weight, formats["int4_b32"])
    with pytest.raises(CalibrationError, match="NaN"):
        descend(weight, weight, torch.full((32, 32), torch.nan), qparams)
