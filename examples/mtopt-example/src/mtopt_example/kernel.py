"""The kernel of this plugin: fake quantization in FP5 by exponent arithmetic, on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.backends import KernelSpec, Use, format_of_key, qparams_of
from mtopt_example.fp5 import FP5_ROW

ELEMENT = FP5_ROW.element


def refuses(use: Use) -> str | None:
    """Why a use cannot be served, or None."""
    if use.format != FP5_ROW:
        return f"rounds {FP5_ROW.name} alone"
    return None if use.device.type == "cpu" else "needs a CPU"


def fake_quantize(x: Tensor, amax: Tensor | None, outer_amax: Tensor | None, format: str) -> Tensor:
    """See `mtcore.backends.FAKE_QUANTIZE.reference`, which this equals bit for bit."""
    scale = qparams_of(x, amax, outer_amax, format_of_key(format)).multiplier()  # [rows, 1]
    units = ((x.float() + 0.0) / scale).nan_to_num(nan=0.0, posinf=torch.inf)  # + 0.0: no zero is negative
    magnitude = units.abs().clamp(max=ELEMENT.max)
    _, exponent = magnitude.frexp()  # magnitude = m · 2^exponent with m in [0.5, 1)
    step = 0.25 * torch.exp2((exponent - 1).clamp(min=0))  # between neighbours: 1/4 below 2, then twice as much
    return (((magnitude / step).round() * step).copysign(units) * scale).to(x.dtype)


FAKE_QUANTIZE_FP5 = KernelSpec("example.fake_quantize", "fake_quantize", refuses, fake_quantize, priority=10)
