"""The steps of GPTQ: rounding some columns whose errors stay among them, as work that a GPU can replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from mtcore.calibration.math.columns import ValueRounding, multipliers_by_row
from mtcore.formats import TensorFormat
from mtcore.numerics import qparams_from_amax
from mtcore.numerics.scaling import outer_scale

Estimate = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""From the present values [rows, wide] of one block of columns, its part of H [wide, wide] and the outer amax, to
its amax [grid rows, 1]. It reads no other tensors, and equal ones are equal as keys, see `Replay`."""


@dataclass(frozen=True)
class FixedStep:
    """Rounds columns with given scales."""

    format: TensorFormat

    def __call__(
        self, work: Tensor, factor: Tensor, multipliers: Tensor, outer_amax: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            work: fp32 [n, rows], one row a column.
            factor: fp32 [n, n], upper triangular.
            multipliers: fp32 [n, rows] or [n, 1].
            outer_amax: fp32 [], where the format has two levels.

        Returns:
            The rounded columns and their errors over the pivots, fp32 [n, rows] each.
        """
        columns = _Columns(self.format, work, factor, outer_amax)
        for i in range(len(work)):
            columns.round(i, multipliers[i])
        return columns.done, columns.errors


@dataclass(frozen=True)
class EstimatingStep:
    """Rounds whole blocks of columns, whose scales are estimated when their turn comes.

    Attributes:
        sizes: of the blocks.
    """

    format: TensorFormat
    estimate: Estimate
    sizes: tuple[int, ...]

    def __call__(
        self, work: Tensor, factor: Tensor, hessians: Tensor, places: Tensor, outer_amax: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            work, factor, outer_amax: as for `FixedStep`.
            hessians: each block's part of H, in the order of the weight's columns, fp32 [blocks, wide, wide].
            places: the rows of `work` block by block, within a block in the order of the weight's columns, int64
                [n].

        Returns:
            As for `FixedStep`, and the amax of the blocks, fp32 [grid rows, blocks].
        """
        columns = _Columns(self.format, work, factor, outer_amax)
        found = []
        start = 0
        for size, hessian in zip(self.sizes, hessians, strict=True):
            block = columns.work.index_select(0, places[start : start + size]).T
            amax = self.estimate(block, hessian[:size, :size], outer_amax)
            qparams = qparams_from_amax(amax, self.format, outer_amax)
            multiplier = multipliers_by_row(qparams, work.shape[1], size)[0]
            for i in range(start, start + size):
                columns.round(i, multiplier)
            found.append(amax)
            start += size
        return columns.done, columns.errors, torch.cat(found, 1)


class _Columns:
    """Columns of which some are rounded and the others make good for the errors."""

    def __init__(self, fmt: TensorFormat, work: Tensor, factor: Tensor, outer_amax: Tensor | None) -> None:
        self.work, self.done, self.errors = work.clone(), torch.empty_like(work), torch.empty_like(work)
        self._factor = factor
        self._rounding = ValueRounding(fmt)
        self._scale_2 = None if fmt.via is None or outer_amax is None else outer_scale(outer_amax, fmt)

    def round(self, i: int, multiplier: Tensor) -> None:
        now, error = self.work[i], self.errors[i]
        self._rounding(now, multiplier, self._scale_2, out=self.done[i])
        torch.sub(now, self.done[i], out=error).div_(self._factor[i, i])
        if i + 1 < len(self.work):
            self.work[i + 1 :].addr_(self._factor[i, i + 1 :], error, alpha=-1)


@dataclass(frozen=True)
class BlockOrder:
    """Blocks of columns in the order of the work.

    Attributes:
        sizes: columns of each.
        groups: their numbers, int64 [blocks].
        places: as for `EstimatingStep`, int64 [cols].
    """

    sizes: tuple[int, ...]
    groups: Tensor
    places: Tensor

    @classmethod
    def of(cls, columns: Tensor, wide: int) -> BlockOrder:
        """Of columns in an order that keeps blocks of so many together.

        Example:
            >>> BlockOrder.of(torch.tensor([3, 2, 4, 0, 1]), 2)
            BlockOrder(sizes=(2, 1, 2), groups=tensor([1, 2, 0]), places=tensor([1, 0, 2, 3, 4]))
        """
        runs = [(group, len(list(run))) for group, run in groupby((columns // wide).tolist())]
        groups = torch.tensor([group for group, _ in runs], device=columns.device)
        rank = groups.argsort()[columns // wide]
        return cls(tuple(size for _, size in runs), groups, (rank * wide + columns % wide).argsort())


def steps(sizes: Sequence[int], step: int) -> list[tuple[slice, slice]]:
    """Blocks together until they have about `step` columns: the columns of each step, and its blocks.

    Example:
        >>> steps([16, 16, 16, 8], 32)
        [(slice(0, 32, None), slice(0, 2, None)), (slice(32, 56, None), slice(2, 4, None))]
    """
    found = []
    first = start = stop = 0
    for number, size in enumerate(sizes):
        if stop > start and stop + size - start > step:
            found.append((slice(start, stop), slice(first, number)))
            first, start = number, stop
        stop += size
    return [*found, (slice(start, stop), slice(first, len(sizes)))]
