"""Columns: rounding one column of a matrix alone, with the scales that its block has."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from mtcore.formats import Block
from mtcore.numerics import QParams, fake_quantize


class ColumnRounding:
    """Rounds column j of a matrix exactly as `fake_quantize` rounds it within the whole matrix."""

    def __init__(self, qparams: QParams, rows: int, cols: int) -> None:
        """
        Args:
            qparams: of the whole matrix [rows, cols].
        """
        fmt = qparams.format
        self.wide = fmt.block.extents(rows, cols)[1]
        inner = replace(fmt.inner, block=Block(fmt.block.rows, 1))
        self._format = replace(fmt, scales=(inner, *fmt.scales[1:]))
        self._qparams = qparams
        self._group = -1
        self._own = qparams

    def __call__(self, values: Tensor, j: int) -> Tensor:
        """values fp32 [rows] → fp32 [rows], rounded with the scales of column j."""
        if j // self.wide != self._group:
            self._group = j // self.wide
            zero_point = self._qparams.zero_point
            own = slice(self._group, self._group + 1)
            self._own = replace(
                self._qparams,
                format=self._format,
                scale=self._qparams.scale[:, own],
                zero_point=None if zero_point is None else zero_point[:, own],
            )
        return fake_quantize(values[:, None], self._own)[:, 0]
