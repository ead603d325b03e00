"""From stored scales back to the magnitudes that give them: what a quantizer in memory keeps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mtcore.formats import TensorFormat
from mtcore.numerics import QParams, qparams_from_amax
from mtopt_hf.ct.tensors import divisor

_STEPS = (0, 1, -1, 2, -2, 3, -3)
"""Neighbours to try: a magnitude is guessed by a product, and the scale comes from it by one or two quotients."""


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
    return _nearest(scale_2 * fmt.outer_target, scale_2, lambda amax: _outer(amax, fmt))


def scale_2_of(stored: Tensor, fmt: TensorFormat) -> Tensor:
    """The outer scale, fp32 [], whose reciprocal is the divisor that a file of compressed-tensors holds.

    Several scales have one reciprocal; this is one that a magnitude gives, so that the file's divisor comes out
    again when it is written.
    """
    wanted = stored.reshape(())
    amax = _nearest((fmt.outer_target / wanted.double()).float(), wanted, lambda a: divisor(_outer(a, fmt))[0])
    return _outer(amax, fmt)


def _outer(amax: Tensor, fmt: TensorFormat) -> Tensor:
    scale = qparams_from_amax(amax.reshape(1, 1), fmt, amax).scale_2
    assert scale is not None
    return scale


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
