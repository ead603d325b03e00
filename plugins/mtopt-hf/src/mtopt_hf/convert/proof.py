"""The proof that a conversion lost nothing: what is read from the new files against what was read from the old."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mtcore.numerics import QParams
from mtopt_hf.checkpoint.layer import LayerValues


@dataclass(frozen=True)
class LayerProof:
    """What is the same in one layer.

    Attributes:
        codes, scales, zero_points: whether all are equal, bit for bit.
        outer_ulps, input_ulps: how far the outer scale of the weight and the scale of the input are apart, in units
            in the last place of fp32: one dialect stores their reciprocals. 0 where there is none.
        elements: of the weight.
    """

    layer: str
    codes: bool
    scales: bool
    zero_points: bool
    outer_ulps: int
    input_ulps: int
    elements: int

    @property
    def holds(self) -> bool:
        return self.codes and self.scales and self.zero_points and max(self.outer_ulps, self.input_ulps) <= 1

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def prove(layer: str, before: LayerValues, after: LayerValues) -> LayerProof:
    """Compare one layer before and after."""
    old, new = before.weight, after.weight
    return LayerProof(
        layer,
        codes=_same(old.qdata, new.qdata) and (old.rows, old.cols) == (new.rows, new.cols),
        scales=_same(old.qparams.scale, new.qparams.scale),
        zero_points=_same(old.qparams.zero_point, new.qparams.zero_point),
        outer_ulps=_ulps(old.qparams.scale_2, new.qparams.scale_2),
        input_ulps=_ulps(_stored(before.input), _stored(after.input)),
        elements=old.rows * old.cols,
    )


def _stored(qparams: QParams | None) -> Tensor | None:
    if qparams is None:
        return None
    return qparams.scale if qparams.scale_2 is None else qparams.scale_2


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(tensor.reshape(-1).contiguous().view(torch.uint8) for tensor in (one, other)))


def _ulps(one: Tensor | None, other: Tensor | None) -> int:
    """How many fp32 numbers lie between two positive ones; 2**31 where only one is there."""
    if one is None or other is None:
        return 0 if one is other else 2**31
    bits = [int(value.float().reshape(()).view(torch.int32)) for value in (one, other)]
    return abs(bits[0] - bits[1])
