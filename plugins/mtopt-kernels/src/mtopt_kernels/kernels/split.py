"""Split-K: several programs share one tile of a product; the last one to finish adds up what all have."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def bias_of(bias_ptr, row, n_rows):
    """What is added to a finished tile, fp32 [features, 1]."""
    return tl.load(bias_ptr + row, mask=row < n_rows, other=0.0).to(tl.float32)[:, None]


@triton.jit
def write_tile(acc, out_ptr, row, col, n_rows, n_cols):
    """Store a finished tile [features, tokens] into the result [tokens, features]."""
    mask = (row < n_rows)[:, None] & (col < n_cols)[None, :]
    # Without a sign, whose bits would wait in registers through the loop (sm_100, NVFP4, 64 tokens: 162 for 104).
    places = col.to(tl.uint32)[None, :].to(tl.int64) * n_rows + row[:, None]
    tl.store(out_ptr + places, acc.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def last_of(acc, partial_ptr, count_ptr, tile, part, SPLIT: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """Leave a partial tile behind; whether all others are there as well.

    The counters must be 0 before; the last program puts its own back to 0. Sums are made in the order of the parts,
    so that a result does not depend on who came last.
    """
    within = tl.arange(0, HIGH)[:, None] * WIDE + tl.arange(0, WIDE)[None, :]
    here = (tile * SPLIT + part).to(tl.int64) * (HIGH * WIDE)
    tl.store(partial_ptr + here + within, acc)
    tl.debug_barrier()
    last = tl.atomic_add(count_ptr + tile, 1, sem="acq_rel", scope="gpu") == SPLIT - 1
    return last


@triton.jit
def sum_of_parts(partial_ptr, count_ptr, tile, SPLIT: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """What all parts of a tile add up to, fp32 [HIGH, WIDE]."""
    within = tl.arange(0, HIGH)[:, None] * WIDE + tl.arange(0, WIDE)[None, :]
    total = tl.zeros((HIGH, WIDE), tl.float32)
    for part in tl.static_range(SPLIT):
        here = (tile * SPLIT + part).to(tl.int64) * (HIGH * WIDE)
        total += tl.load(partial_ptr + here + within, cache_modifier=".cg")  # not from a cache of its own
    tl.store(count_ptr + tile, 0)
    return total
