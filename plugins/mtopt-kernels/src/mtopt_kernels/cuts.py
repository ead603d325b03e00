"""Cuts: how a matrix that is read once is shared among programs, in rectangles or in blocks along its rows."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from mtcore.formats import PER_ROW, PER_TENSOR, Block
from mtopt_kernels.sizes import cdiv, power_of_two

TILE_ELEMENTS = 4096
"""Elements of one program of a kernel that streams through a matrix."""
LIGHT_ELEMENTS = 2048
"""The same where scales cost little, because they are given or powers of two, and no codes are packed. (H200:
0.96 to 1.00 of a copy instead of 0.81 to 0.97; more work for a scale favours 4096.)"""
FEWEST_ELEMENTS = 1024
"""The same for few tokens, so that more programs share what little there is; 8 a thread."""


class Rectangles(NamedTuple):
    """How a matrix is cut into rectangles of `high` x `wide`, one a program.

    Attributes:
        rows, cols: of the matrix as kernels see it: one row where one scale serves all, without gaps.
        grid_cols, programs: rectangles in a row of them, and in all, one a program.
        shared: what has one scale: "tile", "row" or "tensor".
        warps: of a program.
    """

    rows: int
    cols: int
    high: int
    wide: int
    grid_cols: int
    programs: int
    shared: str
    warps: int


@lru_cache(4096)
def rectangles(rows: int, cols: int, block: Block, *, given: bool, contiguous: bool, light: bool) -> Rectangles:
    """The cut where one scale serves a tile, a row or all.

    `given`: magnitudes are, so that a rectangle need not hold all that shares a scale. `light`: little is done.
    """
    elements = LIGHT_ELEMENTS if light else TILE_ELEMENTS
    while elements > FEWEST_ELEMENTS and elements * 128 > rows * cols:
        elements //= 2
    if block == PER_TENSOR and contiguous:
        rows, cols = 1, rows * cols
    if block in (PER_TENSOR, PER_ROW):
        shared = "tensor" if block == PER_TENSOR else "row"
        wide = max(power_of_two(cols), 16)
        wide = min(wide, elements) if given else wide
        high = min(max(elements // wide, 1), power_of_two(rows))
    else:
        shared, high, wide = "tile", block.rows, block.cols
    grid_cols = cdiv(cols, wide)
    programs = cdiv(rows, high) * grid_cols
    warps = min(max(high * wide // 1024, 4), 32)  # 32 elements a thread
    return Rectangles(rows, cols, high, wide, grid_cols, programs, shared, warps)


def block_tiles(
    rows: int, cols: int, k: int, *, contiguous: bool, light: bool = False
) -> tuple[bool, int, int, int]:
    """Whether the matrix is one run of whole blocks, blocks of a program, programs, and blocks along a row."""
    grid_cols = cdiv(cols, k)
    tile = max(1, (LIGHT_ELEMENTS if light else TILE_ELEMENTS) // k)
    return contiguous and cols % k == 0, tile, cdiv(rows * grid_cols, tile), grid_cols
