"""CalibrationKernelContract: what kernels promise that read values and weights while a model is calibrated."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mtcore.backends import ADD_GRAM, COLUMN_STATISTICS, HADAMARD, SWEEP_AMAX, KernelSpec, Use, format_key
from mtcore.formats import TensorFormat
from mtcore.numerics import block_amax
from mtcore.testing.compare import assert_same_bits
from mtcore.testing.formats import sample
from mtcore.testing.kernels import DTYPES

SHAPES = ((1, 1), (3, 17), (70, 64), (130, 272), (257, 65))
"""Single, ragged, whole, and ragged in both axes."""


class CalibrationKernelContract:
    """Override the fixture `kernel`, and `device` for kernels that do not run on a CPU; `fmt` for `sweep_amax`.

    For kernels of the operations column_statistics, add_gram, sweep_amax and hadamard. Magnitudes, counts, chosen
    scales and transforms by powers of two equal the reference's on a CPU bit for bit. A sum of n terms may be added
    up in another order: it is off by n · 2^-24 · Σ |term| at most, on either side.
    """

    @pytest.fixture
    def kernel(self) -> KernelSpec:
        raise NotImplementedError("override the fixture `kernel`: the record that is tested")

    @pytest.fixture
    def fmt(self) -> TensorFormat | None:
        return None

    @pytest.fixture
    def device(self) -> torch.device:
        return torch.device("cpu")

    def test_the_use_is_served(self, kernel: KernelSpec, fmt: TensorFormat | None, device: torch.device) -> None:
        reason = kernel.refuses(Use(kernel.op, fmt, device))
        assert reason is None, f"{kernel.name} refuses {kernel.op} on {device}: {reason}"

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_results_equal_the_reference_on_every_shape(
        self, kernel: KernelSpec, fmt: TensorFormat | None, device: torch.device, dtype: torch.dtype
    ) -> None:
        for shape in SHAPES:
            check(kernel, fmt, sample(shape, dtype).to(device), f"a {shape} matrix in {dtype}")

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_values_that_are_not_finite_end_as_in_the_reference(
        self, kernel: KernelSpec, fmt: TensorFormat | None, device: torch.device, bad: float
    ) -> None:
        for dtype in DTYPES:
            x = sample((40, 256), dtype)
            x[0, 5], x[33, 200] = bad, bad
            check(kernel, fmt, x.to(device), f"a matrix in {dtype} with {bad}")

    def test_zeros_end_as_in_the_reference(
        self, kernel: KernelSpec, fmt: TensorFormat | None, device: torch.device
    ) -> None:
        zeros = torch.zeros(4, 256, dtype=torch.bfloat16, device=device)
        zeros[:, ::3] = -0.0
        check(kernel, fmt, zeros, "a matrix of zeros")

    @pytest.mark.parametrize("exponent", [-120, -60, -34, -22, 15, 34, 60])
    def test_very_small_and_very_large_values_end_as_in_the_reference(
        self, kernel: KernelSpec, fmt: TensorFormat | None, device: torch.device, exponent: int
    ) -> None:
        x = torch.ldexp(sample((40, 256), torch.float32).clamp(-4, 4), torch.tensor(exponent))
        for dtype in DTYPES:
            check(kernel, fmt, x.to(device, dtype), f"values around 2^{exponent} in {dtype}")

    def test_a_matrix_need_not_be_contiguous(
        self, kernel: KernelSpec, fmt: TensorFormat | None, device: torch.device
    ) -> None:
        x = sample((96, 144), torch.bfloat16).to(device)
        for what, view in (
            ("a transposed matrix", x.t()),
            ("columns of a wider matrix", x[:, 16:144]),
            ("every second row", x[::2]),
        ):
            check(kernel, fmt, view, what)


def check(kernel: KernelSpec, fmt: TensorFormat | None, x: Tensor, what: str) -> None:
    """Hold a kernel's results for a matrix against the reference's."""
    label = f"{kernel.name}, {what}"
    if kernel.op == COLUMN_STATISTICS.name:
        check_statistics(kernel, x, label)
    elif kernel.op == ADD_GRAM.name:
        check_gram(kernel, x, label)
    elif kernel.op == HADAMARD.name:
        for size in (1 << bit for bit in range(9)):
            if x.shape[1] % size == 0:
                rotated = kernel.run(x, size, False)
                expected = HADAMARD.reference(x.cpu(), size, False)
                assert_same_bits(rotated.cpu(), expected, f"{label}, {size} together")
                assert rotated.is_contiguous(), f"{label}: the result is not contiguous"
    else:
        assert kernel.op == SWEEP_AMAX.name, f"{kernel.name}: no contract for {kernel.op}"
        assert fmt is not None, "override the fixture `fmt`"
        check_sweep(kernel, fmt, x, label)


def check_statistics(kernel: KernelSpec, x: Tensor, label: str) -> None:
    """All four results, and that those which are not asked for are empty."""
    expected = COLUMN_STATISTICS.reference(x.cpu(), True, True)
    for moments in (False, True):
        for histogram in (False, True):
            amax, total, squares, counts = (part.cpu() for part in kernel.run(x, moments, histogram))
            assert_same_bits(amax, expected[0], f"{label}: largest magnitudes")
            assert total.numel() == squares.numel() == (x.shape[1] if moments else 0), f"{label}: sizes of sums"
            if moments:
                exact = x.cpu().double().abs()
                close(total, exact.sum(0), exact.sum(0), len(x), f"{label}: sums of magnitudes")
                close(squares, exact.square().sum(0), exact.square().sum(0), len(x), f"{label}: sums of squares")
            wanted = expected[3] if histogram else expected[3][:0]
            assert torch.equal(counts, wanted), f"{label}: counts by magnitude"


def check_gram(kernel: KernelSpec, x: Tensor, label: str) -> None:
    """That products are added to what is there, and nothing else changes."""
    total = torch.ones(x.shape[1], x.shape[1], device=x.device)
    kernel.run(total, x)
    exact = x.cpu().double()
    size = exact.abs().T @ exact.abs() + 1
    close(total.cpu(), exact.T @ exact + 1, size, len(x) + 1, f"{label}: Σ x xᵀ")


def check_sweep(kernel: KernelSpec, fmt: TensorFormat, x: Tensor, label: str) -> None:
    """The very candidates of the reference, with and without weights of columns."""
    key, amax = format_key(fmt), block_amax(x.cpu(), fmt.block)
    outer = x.cpu().float().abs().nan_to_num(1.0, 2.0).amax() if fmt.outer is not None else None
    importance = torch.linspace(0.1, 3.0, x.shape[1])
    for weights in (None, importance):
        on_device = [None if tensor is None else tensor.to(x.device) for tensor in (amax, outer, weights)]
        found = kernel.run(x, *on_device, 12, 10, key)
        expected = SWEEP_AMAX.reference(x.cpu(), amax, outer, weights, 12, 10, key)
        assert_same_bits(found.cpu(), expected, f"{label}: magnitudes of the cheapest scales")


def close(found: Tensor, exact: Tensor, size: Tensor, terms: int, label: str) -> None:
    """fp32 sums of `terms` terms that add up to `size` without their signs; NaN and infinities as in `exact`.

    Each addition and, before it, the product rounds by 2^-24 of a partial sum, which `size` bounds. Tensor
    cores cut off instead: twice as much. Terms below fp32's normal numbers may be lost.
    """
    exact = exact.float().double()  # overflows where fp32 does
    sound = exact.isfinite()
    assert torch.equal(found.isnan(), exact.isnan()), f"{label}: NaN at other places"
    off = (found.double() - exact).abs()[sound]
    bound = (2 * terms * 2**-24 * size[sound] + terms * 2.0**-126) * (1 + 2**-10)
    worst: Any = (off - bound).max() if off.numel() else 0.0
    assert bool((off <= bound).all()), f"{label}: off by {float(worst):.3g} more than rounding explains"
