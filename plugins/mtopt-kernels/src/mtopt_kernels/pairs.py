"""Rows and tiles of 16-bit floats whose scale is worked out: on how many programs, in which parts."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mtcore.formats import PER_ROW, Block
from mtopt_kernels.constants import Known
from mtopt_kernels.kernels.pairs import pairs_kernel
from mtopt_kernels.sizes import cdiv, power_of_two
from mtopt_kernels.start import start

FEWEST = 8192
"""Elements of a row or tile from which on it is held as pairs. (H100, rows of 4096: 0.99 of a copy either way.)"""
LONGEST_ROW = 32768
"""Elements of a row that a program holds at once."""
LANE_PAIRS = 4
"""Pairs that a thread loads at once: 16 bytes."""
MOST_PARTS = 16
"""That 4 warps hold without spilling; more warps take what is larger. (H100: 4, 8 and 16 warps within 0.02.)"""


class Cut(NamedTuple):
    """How a matrix is cut: rectangles, one a program, of `parts` parts of `high` x `wide` pairs.

    Attributes:
        grid_cols, programs: rectangles in a row of them, and in all.
        down: parts lie one below the other, not side by side.
        whole: no part reaches beyond the matrix.
        warps: of a program.
    """

    high: int
    wide: int
    parts: int
    down: bool
    grid_cols: int
    programs: int
    whole: bool
    warps: int


def in_pairs(x: Tensor, block: Block) -> bool:
    """Whether a matrix, its rows without gaps, is read in pairs where the largest magnitudes are not given."""
    if x.dtype not in (torch.bfloat16, torch.float16):
        return False
    cols = x.shape[1]
    if cols % 2 or x.stride(0) % 2 or x.data_ptr() % 16:
        return False
    if block == PER_ROW:
        return FEWEST <= power_of_two(cols) <= LONGEST_ROW
    return block.rows > 1 and block.cols >= 2 * LANE_PAIRS and block.rows * block.cols >= FEWEST


def quantize_pairs(x: Tensor, what: Known, out: Tensor, scale: Tensor | None) -> None:
    """Fill `out` with fake-quantized values, or with codes of 8 bits where `scale` is there to be filled too."""
    rows, cols = x.shape
    cut = cut_of(rows, cols, what.fmt.block)
    start(
        pairs_kernel,
        cut.programs,
        x,
        out,
        scale,
        rows,
        cols // 2,
        x.stride(0) // 2,
        cut.grid_cols,
        what.constants,
        cut.high,
        cut.wide,
        cut.parts,
        cut.down,
        cut.whole,
        scale is not None,
        warps=cut.warps,
    )


@lru_cache(4096)
def cut_of(rows: int, cols: int, block: Block) -> Cut:
    """The cut for one scale a row, or a tile."""
    pairs = cols // 2 if block == PER_ROW else block.rows * block.cols // 2
    warps = 4
    while pairs > warps * 32 * LANE_PAIRS * MOST_PARTS:
        warps *= 2
    part = warps * 32 * LANE_PAIRS
    parts = cdiv(pairs, part)
    if block == PER_ROW:
        return Cut(1, part, parts, False, 1, rows, cols == 2 * part * parts, warps)
    wide, grid_cols = block.cols // 2, cdiv(cols, block.cols)
    whole = rows % block.rows == 0 and cols % block.cols == 0
    high, wide = (part // wide, wide) if wide <= part else (1, part)
    return Cut(high, wide, parts, True, grid_cols, cdiv(rows, block.rows) * grid_cols, whole, warps)
