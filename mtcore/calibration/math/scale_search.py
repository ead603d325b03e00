"""Scale search: for each block, the magnitude whose scale costs least."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from mtcore.calibration.math.errors import BlockError
from mtcore.errors import FormatError
from mtcore.formats import Float32Element, FloatElement, PowerOfTwoElement, TensorFormat
from mtcore.numerics import decode, fake_quantize, qparams_from_amax


def best_amax(
    x: Tensor, fmt: TensorFormat, candidates: Iterable[Tensor], cost: BlockError, outer_amax: Tensor | None = None
) -> Tensor:
    """For each block, the candidate under which quantizing costs least; of equal ones the first.

    Args:
        x: [rows, cols], any float dtype; judged in fp32.
        fmt: a symmetric format.
        candidates: magnitudes, fp32 [grid rows, grid cols] each; at least one.
        cost: of the difference between the quantized and the original matrix.
        outer_amax: fp32 [], see `qparams_from_amax`; fixed during the search.

    Returns:
        fp32 [grid rows, grid cols]. A block whose every cost is NaN keeps its first candidate, so that it shows.
    """
    exact = x.float()
    best: Tensor | None = None
    least: Tensor | None = None
    for amax in candidates:
        found = cost(fake_quantize(exact, qparams_from_amax(amax, fmt, outer_amax)) - exact)
        if best is None or least is None:
            best, least = amax.clone(), found
            continue
        better = found < least
        best = torch.where(better, amax, best)
        least = torch.where(better, found, least)
    if best is None:
        raise ValueError("a scale search needs at least one candidate")
    return best


def scaled_amax(amax: Tensor, start: float, stop: float, step: float) -> Iterator[Tensor]:
    """Candidates amax · m, for m = 1 first (so that it wins ties) and then start, start + step, … up to stop.

    Raises:
        ValueError: at once, where the range makes no sense.
    """
    if not (0 < start <= stop and step > 0 and math.isfinite(stop)):
        raise ValueError(f"a search from {start} to {stop} in steps of {step}: 0 < start ≤ stop and step > 0")
    count = int((stop - start) / step + 1e-9) + 1
    return (amax * m for m in (1.0, *(start + step * i for i in range(count))))


def swept_amax(
    amax: Tensor, fmt: TensorFormat, outer_amax: Tensor | None = None, *, below: int = 12, above: int = 10
) -> Iterator[Tensor]:
    """Candidates that give the neighbouring codes of the stored scale, each from `below` under to `above` over.

    Scales of few bits have few values, so that trying them all is exact where trying multiples of amax is not.
    For E4M3, 8 codes are a factor of 2. The scale that amax itself gives comes first and wins ties.

    Args:
        amax: fp32 [grid rows, grid cols]; a block of zeros keeps 0.
        fmt: a format whose scales are not fp32.
        outer_amax: fp32 [] where the format has two levels.

    Raises:
        FormatError: at once, for fp32 scales: they have too many codes to try.
    """
    element = fmt.inner.element
    if isinstance(element, Float32Element):
        raise FormatError(f"format {fmt.name!r}: its fp32 scales cannot all be tried; search multiples of amax")
    qparams = qparams_from_amax(amax, fmt, outer_amax)
    codes = qparams.scale.view(torch.uint8).to(torch.int16)
    largest = max(code for code in range(2**element.bits) if element.value_of(code) == element.max)
    smallest = 0 if isinstance(element, PowerOfTwoElement) else 1

    def candidates() -> Iterator[Tensor]:
        yield amax
        for offset in (*range(-1, -below - 1, -1), *range(1, above + 1)):
            moved = (codes + offset).clamp(smallest, largest).to(torch.uint8)
            scale = decode(moved.view(qparams.scale.dtype), element)
            yield torch.where(amax > 0, _amax_of(scale, fmt, qparams.scale_2), amax)

    return candidates()


def _amax_of(scale: Tensor, fmt: TensorFormat, scale_2: Tensor | None) -> Tensor:
    """A magnitude that is turned into exactly this scale.

    For a float scale it is off by two roundings of fp32 at most, far less than half a step of the scale. For a
    power of two it is a power of two, which all three rounding rules keep.
    """
    if isinstance(fmt.inner.element, FloatElement):
        return scale * (fmt.target if scale_2 is None else fmt.target * scale_2)
    power = 2.0 ** (math.frexp(fmt.target)[1] - 1)
    return scale * (power if scale_2 is None else power * scale_2)
