"""Scales in fp16, which the integer layouts store."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.errors import ExportError

HALF_NOTE = "scales are rounded to fp16, so that weights move by up to 2^-11 of themselves"
_SMALLEST = torch.finfo(torch.float16).smallest_normal


def halves(scale: Tensor, layer: str) -> Tensor:
    """fp32 scales rounded to fp16, each by at most 2^-11 of itself.

    Raises:
        ExportError: a scale is too large for fp16, or so small that it would lose more than that.
    """
    rounded = scale.to(torch.float16)
    if scale.is_meta or bool((rounded.isfinite() & (rounded >= _SMALLEST)).all()):
        return rounded
    low, high = float(scale.min()), float(scale.max())
    raise ExportError(
        [f"{layer}: scales from {low:.3g} to {high:.3g} do not fit into fp16, which the layout demands; exclude it"]
    )
