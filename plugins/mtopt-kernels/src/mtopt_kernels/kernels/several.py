"""Several weights in one product: each tile of features belongs to one of up to four, which have what it needs."""

from __future__ import annotations

import triton
import triton.language as tl

MOST_TOGETHER = 4
"""Weights that one kernel multiplies the same input with."""


@triton.jit
def one_of(which, a, b, c, d, WEIGHTS: tl.constexpr):
    """The one of that number; those beyond WEIGHTS may be None."""
    chosen = a
    if WEIGHTS > 1:
        chosen = tl.where(which == 1, b, chosen)
    if WEIGHTS > 2:
        chosen = tl.where(which == 2, c, chosen)
    if WEIGHTS > 3:
        chosen = tl.where(which == 3, d, chosen)
    return chosen


@triton.jit
def whose_tile(tile, second, third, fourth, WEIGHTS: tl.constexpr):
    """Which weight a tile of features belongs to, and its number there; the others begin at tiles `second`, …"""
    which = tile * 0
    if WEIGHTS > 1:
        which += (tile >= second).to(tl.int32)
    if WEIGHTS > 2:
        which += (tile >= third).to(tl.int32)
    if WEIGHTS > 3:
        which += (tile >= fourth).to(tl.int32)
    return which, tile - one_of(which, tile * 0, second, third, fourth, WEIGHTS)
