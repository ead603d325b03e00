"""The kernel keeps the contract of kernels, and is chosen for FP5 on a CPU alone."""

import pytest
import torch

from mtcore.backends import Use, choose_kernel
from mtcore.plugins import Registry
from mtcore.testing import KernelContract
from mtopt_example import hooks
from mtopt_example.fp5 import FP5_ROW
from mtopt_example.kernel import FAKE_QUANTIZE_FP5


class TestFakeQuantize(KernelContract):
    @pytest.fixture
    def kernel(self):
        return FAKE_QUANTIZE_FP5

    @pytest.fixture
    def fmt(self):
        return FP5_ROW


def test_it_is_chosen_for_its_format_and_says_why_not_for_others():
    registry = Registry.load([hooks], discover=False, strict=True)
    kernels, cpu = list(registry.kernels.values()), torch.device("cpu")
    assert choose_kernel(Use("fake_quantize", FP5_ROW, cpu), kernels).kernel is FAKE_QUANTIZE_FP5
    other = choose_kernel(Use("fake_quantize", registry.formats["fp8"], cpu), kernels)
    assert str(other) == "fake_quantize fp8: torch.fake_quantize (cpu); example.fake_quantize: rounds fp5_row alone"
