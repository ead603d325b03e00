"""Views: how a layer's weight or activation is seen as the matrix that its format speaks of, and put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mtcore.numerics import token_matrix, weight_matrix


class MatrixView(Protocol):
    """A pair of reshapes; both are differentiable, and copy only where the memory order asks for it."""

    @property
    def row_axis(self) -> int | None:
        """The axis that alone makes up the rows, or None."""

    def arranged(self, x: Tensor) -> Tensor:
        """x with its axes in the order in which a plain reshape gives the matrix."""

    def to_matrix(self, x: Tensor) -> Tensor:
        """x as a matrix [rows, cols]."""

    def from_matrix(self, matrix: Tensor, like: Tensor) -> Tensor:
        """The tensor in the shape of `like` whose matrix this is."""


@dataclass(frozen=True)
class TokenView:
    """An activation: rows are tokens (or pixels), columns are the features, which lie on `feature_axis`.

    Example:
        >>> TokenView(-3).to_matrix(torch.zeros(2, 8, 5, 5)).shape
        torch.Size([50, 8])
    """

    feature_axis: int = -1

    @property
    def row_axis(self) -> None:
        return None

    def arranged(self, x: Tensor) -> Tensor:
        return x.movedim(self.feature_axis, -1) if self._moves(x) else x

    def to_matrix(self, x: Tensor) -> Tensor:
        return token_matrix(self.arranged(x))

    def from_matrix(self, matrix: Tensor, like: Tensor) -> Tensor:
        if not self._moves(like):
            return matrix if like.dim() == 2 else matrix.reshape(like.shape)
        return matrix.reshape(self.arranged(like).shape).movedim(-1, self.feature_axis)

    def _moves(self, x: Tensor) -> bool:
        return self.feature_axis != -1 and x.dim() > 1


@dataclass(frozen=True)
class ChannelView:
    """A weight: rows are its output channels, which lie on `channel_axis`; all other axes are columns, in order.

    `groups` is for transposed convolutions, whose weight [in, out / groups, …] holds the channels of all groups
    side by side: their rows are the channels of the first group, then those of the second, and so on.

    Example:
        >>> ChannelView(1, groups=2).to_matrix(torch.zeros(6, 4, 3)).shape
        torch.Size([8, 9])
    """

    channel_axis: int = 0
    groups: int = 1

    @property
    def row_axis(self) -> int | None:
        """The axis that alone makes up the rows, or None."""
        return self.channel_axis if self.groups == 1 else None

    def arranged(self, x: Tensor) -> Tensor:
        if self.groups > 1:
            x = _split_groups(x, self.groups).movedim(self.channel_axis + 1, 1).flatten(0, 1)
        elif self.channel_axis:
            x = x.movedim(self.channel_axis, 0)
        return x

    def to_matrix(self, x: Tensor) -> Tensor:
        return weight_matrix(self.arranged(x))

    def from_matrix(self, matrix: Tensor, like: Tensor) -> Tensor:
        if self.groups > 1:
            grouped = _split_groups(matrix.reshape(self.arranged(like).shape), self.groups)
            return grouped.movedim(1, self.channel_axis + 1).flatten(0, 1)
        moved = matrix.reshape(self.arranged(like).shape)
        return moved.movedim(0, self.channel_axis) if self.channel_axis else moved


def _split_groups(x: Tensor, groups: int) -> Tensor:
    return x.reshape(groups, -1, *x.shape[1:])


def spread_blocks(per_block: Tensor, rows: int, cols: int, high: int, wide: int) -> Tensor:
    """[grid rows, grid cols] → [rows, cols]: every element gets the value of its block of high × wide elements."""
    grid_rows, grid_cols = per_block.shape
    full = per_block[:, None, :, None].expand(grid_rows, high, grid_cols, wide)
    return full.reshape(grid_rows * high, grid_cols * wide)[:rows, :cols]


def sum_blocks(matrix: Tensor, high: int, wide: int) -> Tensor:
    """[rows, cols] → [grid rows, grid cols]: the sum over every block of high × wide elements."""
    rows, cols = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, -cols % wide, 0, -rows % high))
    return padded.reshape(-(-rows // high), high, -(-cols // wide), wide).sum(dim=(1, 3))
