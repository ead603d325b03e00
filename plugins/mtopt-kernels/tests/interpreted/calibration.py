"""The contract of the kernels that serve calibration, in Triton's interpreter; run by test_interpreted.py."""

from dataclasses import replace

import pytest
import torch

from mtcore.backends import Use
from mtcore.backends.reference import column_statistics, hadamard
from mtcore.formats import builtin_formats
from mtcore.testing import CalibrationKernelContract, assert_same_bits
from mtopt_kernels import calibration, specs

FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
KERNELS = {spec.op: spec for spec in specs.calibration_specs()}


def served(use):
    return specs.refuses_sweep(use) if use.op == "sweep_amax" else None


@pytest.mark.parametrize("op", ["column_statistics", "hadamard", "sweep_amax"])  # the gram is torch's own, on a GPU
class TestCalibration(CalibrationKernelContract):
    @pytest.fixture
    def kernel(self, op):
        return replace(KERNELS[op], run=getattr(calibration, op), refuses=served)

    @pytest.fixture
    def fmt(self):
        return FORMATS["nvfp4"]


@pytest.mark.parametrize("size", [1024, 4096, 16384])
def test_long_stretches_are_transformed_as_in_the_reference(size):
    x = torch.randn(2, size, generator=torch.Generator().manual_seed(0))
    assert_same_bits(calibration.hadamard(x, size, False), hadamard(x, size, False), f"{size} together")


@pytest.mark.parametrize("size", [12, 3, 32768])
def test_other_sizes_are_left_to_the_reference(size):
    x = torch.randn(2, 32768 if size == 32768 else 24)
    if size == 3:
        with pytest.raises(Exception, match="no Hadamard matrix of size 3"):
            calibration.hadamard(x, size, False)
    else:
        assert_same_bits(calibration.hadamard(x, size, True), hadamard(x, size, True), f"{size} together")


def test_magnitudes_in_fp64_are_counted_in_their_own_bins_and_keep_all_digits():
    x = torch.randn(64, 48, dtype=torch.float64).mul(torch.logspace(-40, 40, 64, dtype=torch.float64)[:, None])
    for found, expected in zip(
        calibration.column_statistics(x, False, True), column_statistics(x, False, True), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["mxfp4", "int4_b128", "fp8_row", "fp8_128x128"])
def test_scales_that_are_no_small_floats_are_not_swept(name):
    assert "small floats" in specs.refuses_sweep(Use("sweep_amax", FORMATS[name], torch.device("cpu")))
