"""Columns: rounding one column of a matrix alone, with the scales that its block has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtcore.calibration.math.element_table import element_table
from mtcore.formats import CodedElement, TensorFormat
from mtcore.numerics import QParams
from mtcore.numerics.cast import canonical_zero, round_canonical


@dataclass(frozen=True)
class ValueRounding:
    """Rounds values whose scales are known, as `fake_quantize` rounds them, in few operations."""

    format: TensorFormat

    def __call__(
        self,
        values: Tensor,
        multiplier: Tensor,
        scale_2: Tensor | None = None,
        zero_point: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            values: fp32 [n].
            multiplier: what a code is multiplied by, fp32 [n] or [1].
            scale_2: fp32 [], for formats of two stages.
            zero_point: fp32 like `multiplier`, for asymmetric formats.
            out: where to put the result, fp32 [n].
        """
        element = self.format.element
        units = canonical_zero(values, element) / multiplier if values.device.type == "cpu" else values / multiplier
        if zero_point is None:
            rounded = _round(units, element)
        else:
            units = units.round_().nan_to_num_(nan=0.0).add_(zero_point)
            rounded = _round(units, element).sub_(zero_point)
        if self.format.via is None:
            return torch.mul(rounded, multiplier, out=out)
        assert scale_2 is not None
        return torch.mul(_round(rounded * multiplier / scale_2, self.format.via), scale_2, out=out)


class ColumnRounding:
    """Rounds column j of a matrix exactly as `fake_quantize` rounds it within the whole matrix."""

    def __init__(self, qparams: QParams, rows: int, cols: int) -> None:
        """
        Args:
            qparams: of the whole matrix [rows, cols].
        """
        self.wide = qparams.format.block.extents(rows, cols)[1]
        self._round = ValueRounding(qparams.format)
        self._qparams = qparams
        self._multipliers = multipliers_by_row(qparams, rows, cols)
        zero_point = qparams.zero_point
        self._zero_points = None if zero_point is None else by_row(zero_point.float(), qparams.format, rows, cols)

    def __call__(self, values: Tensor, j: int) -> Tensor:
        """values fp32 [rows] → fp32 [rows], rounded with the scales of column j."""
        group = j // self.wide
        zero_point = None if self._zero_points is None else self._zero_points[group]
        return self._round(values, self._multipliers[group], self._qparams.scale_2, zero_point)


def multipliers_by_row(qparams: QParams, rows: int, cols: int) -> Tensor:
    """What the codes of each row are multiplied by, fp32 [grid cols, rows] ([grid cols, 1] where rows share it)."""
    return by_row(qparams.multiplier(), qparams.format, rows, cols)


def by_row(grid: Tensor, fmt: TensorFormat, rows: int, cols: int) -> Tensor:
    """Values of a grid [grid rows, grid cols], spread over the rows: [grid cols, rows], or [grid cols, 1]."""
    high = fmt.block.extents(rows, cols)[0]
    if len(grid) > 1 and high > 1:
        grid = grid.repeat_interleave(high, 0)[:rows]
    return grid.T.contiguous()


def _round(units: Tensor, element: CodedElement) -> Tensor:
    if units.device.type == "cpu":
        return round_canonical(units, element)
    return element_table(element, units.device).round(units)
