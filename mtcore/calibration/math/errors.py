"""Errors of a rounded weight: what a difference costs, by block or in the layer's output."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mtcore.formats import Block
from mtcore.numerics import to_blocks
from mtcore.numerics.scale_search import BlockError


def output_error(difference: Tensor, hessian: Tensor) -> Tensor:
    """tr(D H Dᵀ), the squared error of a layer's outputs, summed over the data.

    With H = Σ x xᵀ it is Σ |D x|², so the data need not run again to judge another weight (Frantar et al. 2022,
    "GPTQ", arXiv:2210.17323, equation 1).

    Args:
        difference: D, fp32 [rows, cols].
        hessian: H, fp32 [cols, cols].

    Returns:
        fp32 [].
    """
    return ((difference @ hessian) * difference).sum()


def quadratic(block: Block, hessian: Tensor) -> BlockError:
    """The cost dᵀ H_b d of each block and row, H_b being the block's own part of the diagonal of `hessian`.

    What a block does to the others is left out, so blocks can be judged alone.

    Args:
        block: its columns must be fewer than the matrix's for this to differ from the whole H.
        hessian: fp32 [cols, cols].
    """
    cols = hessian.shape[0]
    wide = block.extents(1, cols)[1]
    parts = diagonal_blocks(hessian, wide)

    def cost(difference: Tensor) -> Tensor:
        blocks = to_blocks(difference, block)  # [grid rows, high, grid cols, wide]
        rows = blocks.permute(2, 0, 1, 3).flatten(1, 2)  # [grid cols, grid rows · high, wide]
        costs = ((rows @ parts) * rows).sum(-1).view(blocks.shape[2], blocks.shape[0], blocks.shape[1])
        return costs.sum(-1).T

    return cost


def diagonal_blocks(hessian: Tensor, wide: int) -> Tensor:
    """The square parts [cols / wide, wide, wide] along the diagonal; a partial last one is filled with zeros."""
    count = -(-hessian.shape[0] // wide)
    fill = count * wide - hessian.shape[0]
    padded = F.pad(hessian, (0, fill, 0, fill)) if fill else hessian
    tiles = padded.view(count, wide, count, wide)
    return tiles.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
