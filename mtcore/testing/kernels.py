"""KernelContract: what every kernel promises, the bits of `mtcore.numerics`."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mtcore.backends import OPERATIONS, KernelSpec, Use, format_key
from mtcore.formats import PER_TENSOR, TensorFormat
from mtcore.numerics import block_amax
from mtcore.testing.compare import assert_same_bits
from mtcore.testing.formats import sample

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((1, 1), (3, 17), (5, 256), (130, 130), (0, 16), (3, 0))
"""Single, ragged, whole blocks, ragged in both axes, and empty."""

MANY = 2**31
"""More elements than an int32 can count."""


class KernelContract:
    """Override the fixtures `kernel` and `fmt`, and `device` for kernels that do not run on a CPU.

    For kernels of the operations fake_quantize, quantize, dequantize and block_amax. Results are held against
    the operation's reference on a CPU, bit for bit. Where `fmt` is refused on the device, the contract fails: give
    only formats that the kernel serves. On a GPU one test needs 20 GiB of its memory; mark such a subclass as your
    other tests for GPUs.
    """

    @pytest.fixture
    def kernel(self) -> KernelSpec:
        raise NotImplementedError("override the fixture `kernel`: the record that is tested")

    @pytest.fixture
    def fmt(self) -> TensorFormat:
        raise NotImplementedError("override the fixture `fmt`: a format that the kernel serves")

    @pytest.fixture
    def device(self) -> torch.device:
        return torch.device("cpu")

    def test_the_operation_exists_and_the_format_is_served(
        self, kernel: KernelSpec, fmt: TensorFormat, device: torch.device
    ) -> None:
        assert kernel.op in OPERATIONS, f"{kernel.name}: no operation {kernel.op!r}; known: {', '.join(OPERATIONS)}"
        reason = kernel.refuses(Use(kernel.op, fmt, device))
        assert reason is None, (
            f"{kernel.name} refuses {fmt.name} on {device}: {reason}; let `fmt` be a format that it serves"
        )

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_results_equal_the_reference_on_every_shape(
        self, kernel: KernelSpec, fmt: TensorFormat, device: torch.device, dtype: torch.dtype
    ) -> None:
        for shape in SHAPES:
            check(kernel, fmt, device, sample(shape, dtype), f"a {shape} matrix in {dtype}")

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_values_that_are_not_finite_end_as_in_the_reference(
        self, kernel: KernelSpec, fmt: TensorFormat, device: torch.device, bad: float
    ) -> None:
        x = sample((3, 256), torch.bfloat16)
        x[0, 5], x[2, 200] = bad, bad
        check(kernel, fmt, device, x, f"a matrix with {bad}")
        check(kernel, fmt, device, x, f"a matrix with {bad} and given magnitudes", given=True)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_given_magnitudes_are_used(
        self, kernel: KernelSpec, fmt: TensorFormat, device: torch.device, dtype: torch.dtype
    ) -> None:
        for shape in SHAPES[1:]:
            check(kernel, fmt, device, sample(shape, dtype), f"a {shape} matrix in {dtype}", given=True)

    def test_zeros_and_their_signs_end_as_in_the_reference(
        self, kernel: KernelSpec, fmt: TensorFormat, device: torch.device
    ) -> None:
        zeros = torch.zeros(4, 256)
        zeros[:, ::3] = -0.0
        check(kernel, fmt, device, zeros, "a matrix of zeros")
        check(kernel, fmt, device, zeros, "a matrix of zeros and given magnitudes", given=True)

    @pytest.mark.parametrize("exponent", [-140, -120, -100, 60, 120])
    def test_very_small_and_very_large_values_end_as_in_the_reference(
        self, kernel: KernelSpec, fmt: TensorFormat, device: torch.device, exponent: int
    ) -> None:
        x = torch.ldexp(sample((4, 256), torch.float32).clamp(-4, 4), torch.tensor(exponent))
        check(kernel, fmt, device, x, f"values around 2^{exponent}")
        check(kernel, fmt, device, x, f"values around 2^{exponent} and given magnitudes", given=True)

    def test_a_matrix_need_not_be_contiguous(
        self, kernel: KernelSpec, fmt: TensorFormat, device: torch.device
    ) -> None:
        x = sample((36, 144), torch.bfloat16).to(device)
        for what, view in (
            ("a transposed matrix", x.t()),
            ("columns of a wider matrix", x[:, 16:144]),
            ("every second row", x[::2]),
        ):
            check(kernel, fmt, device, view, what)

    def test_a_matrix_may_have_more_than_2_31_elements(
        self, kernel: KernelSpec, fmt: TensorFormat, device: torch.device
    ) -> None:
        if kernel.op == "dequantize" or device.type == "cpu":  # whose indices are int64 anyway
            return
        cols = 2**14
        x = torch.randn((MANY // cols + 130, cols), dtype=torch.bfloat16, device=device)
        x[-1, -1] = 300.0  # the largest magnitude is the last element
        outer = torch.full((), 300.0, device=device)
        results = run(kernel, fmt, x, None, outer)
        tail = slice((x.shape[0] - 130) // 128 * 128, None)  # whole blocks, ragged as the matrix is
        expected = reference(kernel, fmt, x[tail].cpu(), None, outer.cpu())
        if kernel.op == "block_amax" and fmt.block == PER_TENSOR:
            assert float(results[0]) == 300.0
            return
        for got, wanted in zip(results, expected, strict=True):
            part = got[-wanted.shape[0] :].cpu() if wanted.dim() and wanted.numel() else got.cpu()
            assert_same_bits(part, wanted, f"{kernel.name}, the end of {x.numel()} elements")


def check(
    kernel: KernelSpec, fmt: TensorFormat, device: torch.device, x: Tensor, what: str, *, given: bool = False
) -> None:
    """Hold a kernel's results for a matrix against the reference's.

    `given`: with magnitudes that are not the matrix's own, so that some values are cut off and one block has none.
    """
    amax = outer = None
    if given:
        amax = block_amax(x.cpu().nan_to_num(1.0, 2.0, -2.0), fmt.block).clone() * 0.75
        amax.view(-1)[-1:] = 0.0
        outer = torch.tensor(2.5) if fmt.outer is not None else None
    x = x.to(device)
    expected = reference(kernel, fmt, x.cpu(), amax, outer)
    on_device = [None if tensor is None else tensor.to(device) for tensor in (amax, outer)]
    for number, (got, wanted) in enumerate(zip(run(kernel, fmt, x, *on_device), expected, strict=True)):
        assert_same_bits(got.cpu(), wanted, f"{kernel.name} {fmt.name}, result {number} for {what}")


def run(
    kernel: KernelSpec, fmt: TensorFormat, x: Tensor, amax: Tensor | None, outer: Tensor | None
) -> tuple[Tensor, ...]:
    """A kernel's results for a matrix; codes to be dequantized come from the reference."""
    return _tuple(kernel.run(*_arguments(kernel.op, fmt, x, amax, outer)))


def reference(
    kernel: KernelSpec, fmt: TensorFormat, x: Tensor, amax: Tensor | None, outer: Tensor | None
) -> tuple[Tensor, ...]:
    """What they must be."""
    return _tuple(OPERATIONS[kernel.op].reference(*_arguments(kernel.op, fmt, x, amax, outer)))


def _arguments(op: str, fmt: TensorFormat, x: Tensor, amax: Tensor | None, outer: Tensor | None) -> tuple[Any, ...]:
    key = format_key(fmt)
    if op == "block_amax":
        return x, fmt.block.rows, fmt.block.cols
    if op == "dequantize":
        on_cpu = [None if tensor is None else tensor.cpu() for tensor in (x, amax, outer)]
        qdata, scale, scale_2 = (t.to(x.device) for t in OPERATIONS["quantize"].reference(*on_cpu, key))
        return qdata, scale, scale_2 if scale_2.numel() else None, x.shape[1], x.dtype, key
    return x, amax, outer, key


def _tuple(results: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (results,) if isinstance(results, Tensor) else results
