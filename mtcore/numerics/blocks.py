"""Views: how a tensor becomes a matrix, and how a matrix becomes blocks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mtcore.formats import PER_TENSOR, WHOLE, Block
from mtcore.numerics.bands import in_bands

_LARGE = 2**24
_BANDS = 32
"""From so many elements on, a matrix on a GPU is reduced in so many bands: as one tall matrix torch would reduce it
in parts whose results take more memory than the matrix (140 MB for 117 MB, seen on an H100 with torch 2.11)."""


def weight_matrix(weight: Tensor, channel_axis: int = 0) -> Tensor:
    """View a weight as [channels, rest]: `channel_axis` first, all other axes flattened in order.

    Example:
        >>> weight_matrix(torch.zeros(8, 4, 3, 3)).shape
        torch.Size([8, 36])
    """
    moved = weight.movedim(channel_axis, 0) if channel_axis else weight
    return moved.reshape(moved.shape[0], -1) if moved.dim() > 1 else moved.reshape(1, -1)


def token_matrix(x: Tensor) -> Tensor:
    """View an activation [..., features] as [tokens, features]; a scalar as [1, 1]."""
    if x.dim() == 2:
        return x
    return x.reshape(-1, x.shape[-1]) if x.dim() else x.reshape(1, 1)


def to_blocks(x: Tensor, block: Block) -> Tensor:
    """Cut a matrix [rows, cols] into [grid rows, high, grid cols, wide]; partial edge blocks are filled with zeros.

    No copy is made where the block divides the matrix.
    """
    rows, cols = x.shape
    high, wide = block.extents(rows, cols)
    grid_rows, grid_cols = block.grid(rows, cols)
    pad_rows, pad_cols = grid_rows * high - rows, grid_cols * wide - cols
    if pad_rows or pad_cols:
        x = F.pad(x, (0, pad_cols, 0, pad_rows))
    return x.reshape(grid_rows, high, grid_cols, wide)


def from_blocks(blocks: Tensor, rows: int, cols: int) -> Tensor:
    """The matrix [rows, cols] of `to_blocks`' result, its fill cut off."""
    grid_rows, high, grid_cols, wide = blocks.shape
    return blocks.reshape(grid_rows * high, grid_cols * wide)[:rows, :cols]


def block_amax(x: Tensor, block: Block) -> Tensor:
    """The largest magnitude of each block of a matrix, fp32 [grid rows, grid cols]; NaN where a block has one.

    An empty matrix has amax 0 in every block that its grid still has.
    """
    if block == PER_TENSOR:
        return tensor_amax(x).expand(block.grid(*x.shape))
    return _reduce_blocks(x, block, lambda part: part.abs().amax(dim=(1, 3)))


def block_range(x: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    """The least and the largest value of each block, zero included: twice fp32 [grid rows, grid cols]."""
    low = _reduce_blocks(x, block, lambda part: part.amin(dim=(1, 3)).clamp(max=0))
    high = _reduce_blocks(x, block, lambda part: part.amax(dim=(1, 3)).clamp(min=0))
    return low, high


def tensor_amax(x: Tensor) -> Tensor:
    """The largest magnitude of a tensor: fp32 [], 0 for an empty one, NaN if it holds a NaN."""
    if not x.numel():
        return torch.zeros((), device=x.device)
    if x.is_cuda and x.is_floating_point():  # one launch, and one reading
        amax: Tensor = torch.linalg.vector_norm(x, torch.inf).float()
        return amax
    low, high = torch.aminmax(x)  # one pass and no temporary, unlike abs().amax()
    return torch.maximum(-low, high).float().abs()  # of zeros, -low is -0.0


def column_amax(x: Tensor) -> Tensor:
    """The largest magnitude of each column of a matrix, fp32 [cols]; NaN where a column has one."""
    return own_column_amax(x).float()


def own_column_amax(x: Tensor) -> Tensor:
    """`column_amax` of [..., cols] in the dtype of x, which holds it exactly: a launch less where they are many."""
    if x.is_cuda and x.dim() > 1:  # one launch, one reading; on a CPU the norm is 20 times slower than two readings
        if x.numel() >= _LARGE:
            x = token_matrix(x)
            x = torch.linalg.vector_norm(x.reshape(math.gcd(len(x), _BANDS), -1, x.shape[1]), torch.inf, dim=1)
        amax: Tensor = torch.linalg.vector_norm(x, torch.inf, dim=0 if x.dim() == 2 else tuple(range(x.dim() - 1)))
        return amax
    x = token_matrix(x)
    return torch.maximum(x.amax(0), -x.amin(0)).abs()  # of zeros, -x is -0.0


def _reduce_blocks(x: Tensor, block: Block, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    grid_rows, grid_cols = block.grid(*x.shape)
    if x.numel() == 0:
        return torch.zeros((grid_rows, grid_cols), dtype=torch.float32, device=x.device)
    if block.rows == WHOLE:  # bands would cut the blocks
        return reduce(to_blocks(x, block)).float()
    return in_bands(lambda part, _: reduce(to_blocks(part, block)).float(), x, block, grid_rows)
