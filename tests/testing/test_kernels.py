"""KernelContract: it holds for the references, and finds kernels that differ in a bit."""

from dataclasses import replace

import pytest
import torch

from mtcore.backends import builtin_kernels
from mtcore.testing import KernelContract
from mtcore.testing.formats import sample
from mtcore.testing.kernels import check

KERNELS = {kernel.op: kernel for kernel in builtin_kernels()}
CPU = torch.device("cpu")


@pytest.mark.parametrize("op", ["fake_quantize", "quantize", "dequantize", "block_amax"])
class TestReference(KernelContract):
    @pytest.fixture
    def kernel(self, op):
        return KERNELS[op]

    @pytest.fixture
    def fmt(self, formats):
        return formats["nvfp4"]


def test_a_kernel_that_loses_the_sign_of_a_small_number_is_found(formats):
    def forgets_signs_of_zeros(*arguments):
        return KERNELS["fake_quantize"].run(*arguments) + 0.0

    wrong = replace(KERNELS["fake_quantize"], name="wrong", run=forgets_signs_of_zeros)
    with pytest.raises(AssertionError, match=r"wrong fp8, result 0 for .* is 0.0, expected -0.0"):
        check(wrong, formats["fp8"], CPU, sample((5, 256), torch.float32), "a matrix")


def test_a_kernel_whose_scale_differs_in_one_bit_is_found(formats):
    def scales_up(*arguments):
        qdata, scale, scale_2 = KERNELS["quantize"].run(*arguments)
        return qdata, scale.nextafter(torch.full_like(scale, torch.inf)), scale_2

    wrong = replace(KERNELS["quantize"], name="wrong", run=scales_up)
    with pytest.raises(AssertionError, match="wrong fp8, result 1"):
        check(wrong, formats["fp8"], CPU, sample((5, 256), torch.float32), "a matrix")
