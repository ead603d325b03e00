"""Sweep of block scales: every neighbouring code is tried, and the one of least squared error kept."""

from __future__ import annotations

import triton
import triton.language as tl

from mtopt_kernels.device.element import divider, lifted, product, quotient, readable, round_units, widened
from mtopt_kernels.device.scale import multiplier, outer_scale, scale_codes, stored_scale
from mtopt_kernels.kernels.blocks import block_places, load_blocks, place_in_row


@triton.jit
def halves_summed(x, BITS: tl.constexpr):
    """[TILE, 2^BITS] → [TILE]: the halves added, element by element, then the halves of that, and so on."""
    TILE: tl.constexpr = x.shape[0]
    for bit in tl.static_range(BITS):
        low, high = tl.split(tl.permute(tl.reshape(x, (TILE, 2, 1 << (BITS - bit - 1))), (0, 2, 1)))
        x = low + high
    return tl.reshape(x, (TILE,))


@triton.jit
def cost_of(x, exact, stored, scale_2, importance, F: tl.constexpr, BITS: tl.constexpr, WEIGHED: tl.constexpr):
    """What rounding to a scale costs each block [TILE, K]; infinity where that is NaN. No product is fused."""
    times = multiplier(stored, scale_2, F)
    power, divisor, inverse, high, low = divider(times, F)
    x = lifted(x, power[:, None], F)
    units = quotient(x, divisor[:, None], inverse[:, None], high[:, None], low[:, None], F, True)
    values = product(round_units(units, x, F), tl.broadcast_to(times[:, None], x.shape))
    difference = values - exact
    weighted = product(difference, difference)
    if WEIGHED:
        weighted = product(weighted, importance)
    cost = halves_summed(weighted, BITS)
    return tl.where(cost == cost, cost, float("inf"))


@triton.jit
def sweep_kernel(
    x_ptr,
    amax_ptr,
    outer_ptr,
    importance_ptr,
    out_ptr,
    n_blocks,
    cols,
    row_stride,
    grid_cols,
    below,
    above,
    F: tl.constexpr,
    K: tl.constexpr,
    BITS: tl.constexpr,
    TILE: tl.constexpr,
    WHOLE: tl.constexpr,
    WEIGHED: tl.constexpr,
):
    """For blocks of K = 2^BITS elements with small floats as scales: the magnitude of the cheapest code.

    The code that `amax` gives comes first, then up to `below` codes below it and `above` over it; of equals, the
    first stays.
    """
    first, local, base, offsets, mask, alive = block_places(n_blocks, cols, row_stride, grid_cols, K, TILE, WHOLE)
    x = load_blocks(x_ptr + base, offsets, mask, alive, TILE, K, WHOLE, K == 16)
    exact = widened(x)
    x = readable(x, F, True)
    importance = 0.0
    if WEIGHED:
        _, place = place_in_row(first + local, grid_cols, K)
        col = place[:, None] + tl.arange(0, K)[None, :]
        importance = tl.load(importance_ptr + col, mask=alive[:, None] & (col < cols), other=0.0)
    best = tl.load(amax_ptr + first + local, mask=alive, other=0.0)
    scale_2, whole = 1.0, F.target
    if F.outer:
        scale_2 = outer_scale(tl.load(outer_ptr), F)
        whole = scale_2 * F.target
    code = stored_scale(best, scale_2, F)
    movable = best > 0.0
    least = cost_of(x, exact, code, scale_2, importance, F, BITS, WEIGHED)
    for step in range(below + above):
        away = tl.where(step < below, -1 - step, step - below + 1)
        moved = tl.minimum(tl.maximum(code + away, 1), F.s_largest)
        amax = scale_codes(moved, F) * whole
        cost = cost_of(x, exact, stored_scale(amax, scale_2, F), scale_2, importance, F, BITS, WEIGHED)
        better = movable & (cost < least)
        least, best = tl.where(better, cost, least), tl.where(better, amax, best)
    tl.store(out_ptr + first + local, best, mask=alive)
