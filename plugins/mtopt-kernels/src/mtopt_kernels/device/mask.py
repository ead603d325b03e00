"""Masks on the GPU."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import INTERPRETED


@triton.jit
def where_both(mask, condition):
    """A mask, and a condition that holds for the whole block."""
    both = mask & condition
    if INTERPRETED:  # Triton 3.9's interpreter keeps what it spreads over a block as integers, and refuses them
        both = both != tl.zeros_like(both)
    return both
