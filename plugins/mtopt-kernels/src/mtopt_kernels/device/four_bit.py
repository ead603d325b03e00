"""Weights of 4 bits on the GPU: decoded words, brought into the order of a tile of the weight.

How the words are laid out for that is said at `mtopt_kernels.prepack`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def arranged(a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7, TILES: tl.constexpr):
    """[16 TILES, 128] of what the words of upper (a) and lower (b) rows hold, one tensor a group of 16 columns."""
    c0, c4, c2, c6 = tl.join(a0, b0), tl.join(a4, b4), tl.join(a2, b2), tl.join(a6, b6)
    c1, c5, c3, c7 = tl.join(a1, b1), tl.join(a5, b5), tl.join(a3, b3), tl.join(a7, b7)
    even = tl.join(tl.join(c0, c4), tl.join(c2, c6))
    odd = tl.join(tl.join(c1, c5), tl.join(c3, c7))
    # [tile, g, t, h, side, lower row, group's bits 2, 1, 0]
    joined = tl.reshape(tl.join(even, odd), (TILES, 8, 4, 2, 2, 2, 2, 2, 2))
    return tl.reshape(tl.permute(joined, (0, 5, 1, 6, 7, 8, 3, 2, 4)), (TILES * 16, 128))


@triton.jit
def words_of(words, CODE: tl.constexpr):
    """Of each pair of neighbouring words, that which holds group CODE of 0 to 7; for the interpreter."""
    first, second = tl.split(tl.reshape(words, (words.shape[0], 8, 4, 2, 2)))
    if CODE < 4:
        return first
    else:
        return second
