"""The fast Hadamard transform of stretches of a row, in fp32, with the additions of `mtcore.numerics.hadamard`."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import widened


@triton.jit
def butterflies(x, BITS: tl.constexpr):
    """All butterflies along the last axis of x [M, 2^BITS], halves of 1, 2, 4, … apart: sums and differences."""
    M: tl.constexpr = x.shape[0]
    for bit in tl.static_range(BITS):
        pairs = tl.permute(tl.reshape(x, (M, 1 << (BITS - bit - 1), 2, 1 << bit)), (0, 1, 3, 2))
        first, second = tl.split(pairs)
        pairs = tl.join(first + second, first - second)
        x = tl.reshape(tl.permute(pairs, (0, 1, 3, 2)), (M, 1 << BITS))
    return x


@triton.jit
def along(x, N: tl.constexpr, STRIDE: tl.constexpr, BITS: tl.constexpr):
    """The butterflies of x [R, N] over 2^BITS elements STRIDE apart, which go to one thread for that."""
    R: tl.constexpr = x.shape[0]
    GROUP: tl.constexpr = 1 << BITS
    if STRIDE == 1:
        return tl.reshape(butterflies(tl.reshape(x, (R * N // GROUP, GROUP)), BITS), (R, N))
    else:
        parts = tl.permute(tl.reshape(x, (R, N // (GROUP * STRIDE), GROUP, STRIDE)), (0, 1, 3, 2))
        parts = butterflies(tl.reshape(parts, (R * N // GROUP, GROUP)), BITS)
        parts = tl.permute(tl.reshape(parts, (R, N // (GROUP * STRIDE), STRIDE, GROUP)), (0, 1, 3, 2))
        return tl.reshape(parts, (R, N))


@triton.jit
def hadamard_kernel(x_ptr, out_ptr, stretches, factor, BITS: tl.constexpr, R: tl.constexpr):
    """R stretches of 2^BITS elements, side by side in memory, times `factor`; four butterflies at a time."""
    N: tl.constexpr = 1 << BITS
    first = tl.program_id(0).to(tl.int64) * R
    row, within = tl.arange(0, R), tl.arange(0, N)
    offsets = row[:, None] * N + within[None, :]
    mask = (first + row < stretches)[:, None] & (within >= 0)[None, :]
    x = widened(tl.load(x_ptr + first * N + offsets, mask=mask, other=0.0))
    for done in tl.static_range(0, BITS, 4):
        x = along(x, N, 1 << done, min(4, BITS - done))
    tl.store(out_ptr + first * N + offsets, x * factor, mask=mask)
