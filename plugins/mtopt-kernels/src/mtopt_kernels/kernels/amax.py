"""Largest magnitudes of rows and of whole tensors, in one reading."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import magnitude_bits


@triton.jit
def rows_amax_kernel(
    x_ptr, out_ptr, cols, row_stride, chunks, WIDE: tl.constexpr, LOOP: tl.constexpr, PER_TENSOR: tl.constexpr
):
    """The maximum of LOOP · WIDE elements of one row goes into the row's result, or into the tensor's.

    The results are the bits of fp32 as int32 and must be 0 before; maxima of bits are maxima of magnitudes, and it
    does not matter who comes first.
    """
    pid = tl.program_id(0)
    row = pid // chunks
    first = (pid - row * chunks).to(tl.int64) * (WIDE * LOOP)
    x_ptr += row.to(tl.int64) * row_stride
    best = tl.zeros((WIDE,), tl.int32)
    for step in tl.static_range(LOOP):
        col = first + step * WIDE + tl.arange(0, WIDE)
        best = tl.maximum(best, magnitude_bits(tl.load(x_ptr + col, mask=col < cols, other=0.0)))
    place = 0 if PER_TENSOR else row
    tl.atomic_max(out_ptr + place, tl.max(best, axis=0), sem="relaxed")
