"""CalibrationKernelContract: it holds for the references, and finds kernels that differ."""

from dataclasses import replace

import pytest
import torch

from mtcore.backends import builtin_kernels
from mtcore.testing import CalibrationKernelContract
from mtcore.testing.calibration_kernels import check
from mtcore.testing.formats import sample

KERNELS = {kernel.op: kernel for kernel in builtin_kernels()}


@pytest.mark.parametrize("op", ["column_statistics", "add_gram", "hadamard", "sweep_amax"])
class TestReference(CalibrationKernelContract):
    @pytest.fixture
    def kernel(self, op):
        return KERNELS[op]

    @pytest.fixture
    def fmt(self, formats):
        return formats["nvfp4"]


def wrong(op, change):
    def run(*arguments):
        return change(KERNELS[op].run(*arguments))

    return replace(KERNELS[op], name="wrong", run=run)


def test_a_count_too_many_is_found():
    kernel = wrong("column_statistics", lambda found: (*found[:3], found[3] + 1))
    with pytest.raises(AssertionError, match="wrong, a matrix: counts by magnitude"):
        check(kernel, None, sample((5, 256), torch.bfloat16), "a matrix")


def test_a_sum_that_is_off_by_more_than_rounding_is_found():
    kernel = wrong("column_statistics", lambda found: (found[0], found[1] * (1 + 2**-18), *found[2:]))
    with pytest.raises(AssertionError, match="sums of magnitudes: off by"):
        check(kernel, None, sample((5, 256), torch.bfloat16), "a matrix")


def test_a_gram_that_forgets_what_was_there_is_found():
    kernel = replace(KERNELS["add_gram"], run=lambda total, x: total.copy_(x.float().T @ x.float()))
    with pytest.raises(AssertionError, match="Σ x xᵀ: off by"):
        check(kernel, None, sample((5, 64), torch.bfloat16), "a matrix")


def test_another_candidate_is_found(formats):
    kernel = wrong("sweep_amax", lambda amax: amax * 1.125)
    with pytest.raises(AssertionError, match="magnitudes of the cheapest scales"):
        check(kernel, formats["nvfp4"], sample((5, 256), torch.bfloat16), "a matrix")


def test_a_transform_without_its_factor_is_found():
    kernel = wrong("hadamard", lambda rotated: rotated * 2)
    with pytest.raises(AssertionError, match="1 together"):
        check(kernel, None, sample((5, 2), torch.bfloat16)[:, :2], "a matrix")
