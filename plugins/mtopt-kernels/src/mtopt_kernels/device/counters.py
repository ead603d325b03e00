"""Counters in shared memory: a histogram of magnitudes that a program keeps beside what else it does.

Triton has no atomic additions to shared memory, so short pieces of PTX make up for it: they reserve counters, add
to them, and read them. `tl.debug_barrier` stands between them.

Counters of all bins would leave room for two or three programs a multiprocessor. bf16 has a value in every other
bin only. For others there are counters of zero, of 2^-24 to 2^16 and of infinities, and fp16 has nothing else. What
fp32 has below and above is added to the result itself, which is slow, and rare in what a model computes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED, magnitude_bits

COARSE_COUNTERS = 8448
"""Reserved for bf16: a bin below 2^-32, 64 octaves of 128 values, one beyond; up to a multiple of 256."""
FINE_COUNTERS = 10496
"""Reserved for others: a bin below 2^-32, 40 octaves of 256 bins, one for the last bin; up to a multiple of 256."""
FIRST = tl.constexpr((127 - 32) * 256 - 1)
"""The upper bits of fp32 by which bins are numbered, of bin 0."""
LAST = tl.constexpr(64 * 256)
"""The last bin."""
COARSE_LAST = tl.constexpr(64 * 128 + 1)
"""The last counter of bf16."""
SKIPPED = tl.constexpr(8 * 256)
"""Bins without a counter between the one of zero and 2^-24."""
FINE_LAST = tl.constexpr(40 * 256 + 1)
"""The last counter of others."""

RESERVE_COARSE = tl.constexpr(f"{{ .shared .align 16 .b32 counters[{COARSE_COUNTERS}]; mov.u32 $0, counters; }}")
RESERVE_FINE = tl.constexpr(f"{{ .shared .align 16 .b32 counters[{FINE_COUNTERS}]; mov.u32 $0, counters; }}")
ADD = tl.constexpr("{ red.shared.add.u32 [$1], 1; mov.u32 $0, 0; }")
ADD_OR_AWAY = tl.constexpr(
    "{ .reg .pred low, away; .reg .s32 own; .reg .b64 place;"
    f" sub.s32 own, $2, {SKIPPED.value}; max.s32 own, own, 0;"
    " setp.eq.s32 low, own, 0; setp.gt.and.s32 away, $2, 0, low;"
    f" setp.ge.or.s32 away, own, {FINE_LAST.value}, away;"
    " mad.lo.s32 own, own, 4, $1; mad.wide.s32 place, $2, 8, $3;"
    " @!away red.shared.add.u32 [own], 1; @away red.global.add.u64 [place], 1; mov.u32 $0, 0; }"
)
"""From the address of the counters, a bin, and the address of the result. (The same steps in Triton are scheduled
far ahead of the additions, and take half as many registers again.)"""
CLEAR = tl.constexpr("{ st.shared.u32 [$1], 0; mov.u32 $0, 0; }")
READ = tl.constexpr("ld.shared.u32 $0, [$1];")


@triton.jit
def reserved(like, DTYPE: tl.constexpr):
    """The address of the counters of a dtype, in the shape of an int32 tensor."""
    asm: tl.constexpr = RESERVE_COARSE if tl.bfloat16 == DTYPE else RESERVE_FINE
    return tl.inline_asm_elementwise(asm, "=r,r", [like], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def cleared(counters, rounds, THREADS: tl.constexpr):
    """Set all counters, `rounds` x THREADS of them, to 0. (Rounds that the compiler counts cost registers.)"""
    for step in range(rounds):
        address = counters + (step * THREADS + tl.arange(0, THREADS)) * 4
        tl.inline_asm_elementwise(CLEAR, "=r,r", [address], dtype=tl.int32, is_pure=False, pack=1)
    tl.debug_barrier()


@triton.jit
def bin_of(x):
    """The bin of `mtcore.numerics.log_counts` to which a value belongs, int32."""
    return tl.minimum(tl.maximum((magnitude_bits(x) >> 15) - FIRST, 0), LAST)


@triton.jit
def counter_of(x):
    """Which counter a value of bf16 or fp16 belongs to, int32."""
    if x.dtype == tl.bfloat16:
        magnitude = x.to(tl.int16, bitcast=True).to(tl.int32) & 0x7FFF
        return tl.minimum(tl.maximum(magnitude - FIRST // 2, 0), COARSE_LAST)
    else:
        return tl.minimum(tl.maximum(bin_of(x) - SKIPPED, 0), FINE_LAST)


@triton.jit
def bin_of_counter(counter, DTYPE: tl.constexpr):
    """The bin whose values a counter counts, int32."""
    if tl.bfloat16 == DTYPE:
        return tl.minimum(tl.maximum(2 * counter - 1, 0), LAST)
    else:
        return tl.where(counter == 0, 0, tl.where(counter < FINE_LAST, counter + SKIPPED, LAST))


@triton.jit
def counted(counters, x, counts_ptr):
    """Add every element of x to its counter, or of fp32 to its bin in `counts_ptr` if that has none."""
    if INTERPRETED:
        if x.dtype == tl.float32:
            bin = bin_of(x)
            own = tl.maximum(bin - SKIPPED, 0)
            away = ((own == 0) & (bin > 0)) | (own >= FINE_LAST)
            bin = tl.where(away, bin, bin_of_counter(own, x.dtype))
        else:
            bin = bin_of_counter(counter_of(x), x.dtype)
        tl.atomic_add(counts_ptr + bin, tl.full(bin.shape, 1, tl.int64))
    elif x.dtype == tl.float32:
        arguments = [counters, bin_of(x), counts_ptr.to(tl.int64)]
        tl.inline_asm_elementwise(ADD_OR_AWAY, "=r,r,r,l", arguments, dtype=tl.int32, is_pure=False, pack=1)
    else:
        address = counters + counter_of(x) * 4
        tl.inline_asm_elementwise(ADD, "=r,r", [address], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def flushed(counters, counts_ptr, rounds, THREADS: tl.constexpr, DTYPE: tl.constexpr):
    """Add all counters to their bins, int64."""
    tl.debug_barrier()
    for step in range(rounds):
        place = step * THREADS + tl.arange(0, THREADS)
        count = tl.inline_asm_elementwise(
            READ, "=r,r", [counters + place * 4], dtype=tl.int32, is_pure=False, pack=1
        )
        bin = bin_of_counter(place, DTYPE)
        tl.atomic_add(counts_ptr + bin, count.to(tl.int64), mask=count > 0, sem="relaxed")
