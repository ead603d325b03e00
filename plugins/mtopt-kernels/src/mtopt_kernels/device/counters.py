"""Counters in shared memory: a histogram of magnitudes that a program keeps beside what else it does.

Triton has no atomic additions to shared memory, so three short pieces of PTX make up for it: one reserves the
counters, one adds to them, one reads them. `tl.debug_barrier` stands between them.
"""

from __future__ import annotations

import triton
import triton.language as tl

COUNTERS = 8448
"""Reserved: a bin below 2^-32, 64 octaves of 128 values of bf16, one beyond; up to a multiple of 256."""
LOWEST = tl.constexpr((127 - 32) * 128 - 1)
"""The magnitude of bf16 that counts as 0: the largest below 2^-32."""
LARGEST = tl.constexpr(64 * 128 + 1)
"""The last counter: 2^32 and beyond."""

RESERVE = tl.constexpr("{ .shared .align 16 .b32 counters[8448]; mov.u32 $0, counters; }")
ADD = tl.constexpr("{ red.shared.add.u32 [$1], 1; mov.u32 $0, 0; }")
CLEAR = tl.constexpr("{ st.shared.u32 [$1], 0; mov.u32 $0, 0; }")
READ = tl.constexpr("ld.shared.u32 $0, [$1];")


@triton.jit
def reserved(like):
    """The address of the counters, in the shape of an int32 tensor."""
    return tl.inline_asm_elementwise(RESERVE, "=r,r", [like], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def cleared(counters, rounds, THREADS: tl.constexpr):
    """Set all counters, `rounds` x THREADS of them, to 0. (Rounds that the compiler counts cost registers.)"""
    for step in range(rounds):
        address = counters + (step * THREADS + tl.arange(0, THREADS)) * 4
        tl.inline_asm_elementwise(CLEAR, "=r,r", [address], dtype=tl.int32, is_pure=False, pack=1)
    tl.debug_barrier()


@triton.jit
def counter_of(x):
    """Which counter a bf16 value belongs to, int32."""
    magnitude = x.to(tl.int16, bitcast=True).to(tl.int32) & 0x7FFF
    return tl.minimum(tl.maximum(magnitude - LOWEST, 0), LARGEST)


@triton.jit
def counted(counters, x):
    """Add every element of x, bf16, to its counter."""
    address = counters + counter_of(x) * 4
    tl.inline_asm_elementwise(ADD, "=r,r", [address], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def flushed(counters, counts_ptr, rounds, THREADS: tl.constexpr):
    """Add all counters to bins of twice as many steps an octave, int64: a value of bf16 lies in every other one."""
    tl.debug_barrier()
    for step in range(rounds):
        place = step * THREADS + tl.arange(0, THREADS)
        count = tl.inline_asm_elementwise(
            READ, "=r,r", [counters + place * 4], dtype=tl.int32, is_pure=False, pack=1
        )
        bin = tl.minimum(tl.maximum(2 * place - 1, 0), 2 * LARGEST - 2)
        tl.atomic_add(counts_ptr + bin, count.to(tl.int64), mask=count > 0, sem="relaxed")
