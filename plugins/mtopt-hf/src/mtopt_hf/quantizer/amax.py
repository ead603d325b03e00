"""From stored scales back to the magnitudes that give them: what a quantizer in memory keeps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mtcore.formats import TensorFormat
from mtcore.numerics import QParams, qparams_from_amax

_STEPS = (0, 1, -1, 2, -2)
"""Neighbours to try: the product of scale and maximum and the quotient that the scale was are each rounded once."""


def amax_of(qparams: QParams) -> Tensor:
    """Magnitudes of the blocks, fp32 [grid rows, grid cols].

    `qparams_from_amax` makes of them the scales that were given: a scale is a rounded quotient of its magnitude,
    and of the fp32 neighbours of the product the one is taken that rounds to it. Where there is none (another tool
    computed the scale in another way), the scale comes out one unit in the last place off.
    """
    fmt = qparams.format
    outer = None if qparams.scale_2 is None else outer_amax_of(qparams.scale_2, fmt)
    return _nearest(
        qparams.multiplier() * fmt.target, qparams.scale, lambda amax: qparams_from_amax(amax, fmt, outer).scale
    )


def outer_amax_of(scale_2: Tensor, fmt: TensorFormat) -> Tensor:
    """The magnitude of the tensor, fp32 [], behind an outer scale; as in `amax_of`."""

    def scale_of(amax: Tensor) -> Tensor:
        scale = qparams_from_amax(amax.reshape(1, 1), fmt, amax).scale_2
        assert scale is not None
        return scale

    return _nearest(scale_2 * fmt.outer_target, scale_2, scale_of)


def _nearest(guess: Tensor, wanted: Tensor, scale_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Of `guess` and its fp32 neighbours, element by element, the first whose scale is the one that is wanted."""
    best, missing = guess.clone(), torch.ones_like(guess, dtype=torch.bool)
    for step in _STEPS:
        candidate = guess
        for _ in range(abs(step)):
            candidate = torch.nextafter(candidate, torch.full_like(candidate, torch.inf if step > 0 else 0.0))
        hit = missing & (_bits(scale_of(candidate)) == _bits(wanted))
        best = torch.where(hit, candidate, best)
        missing = missing & ~hit
    return best


def _bits(scale: Tensor) -> Tensor:
    return scale.view(torch.uint8) if scale.element_size() == 1 else scale
