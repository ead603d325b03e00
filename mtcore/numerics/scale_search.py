"""Scale search: for each block, the magnitude whose scale costs least."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mtcore.errors import FormatError
from mtcore.formats import Block, Float32Element, FloatElement, PowerOfTwoElement, TensorFormat
from mtcore.numerics.blocks import to_blocks
from mtcore.numerics.cast import decode
from mtcore.numerics.quantize import fake_quantize
from mtcore.numerics.scaling import qparams_from_amax

_AT_ONCE = 2**22
"""Elements that are tried together: 16 MiB of fp32. Small matrices cost launches, not arithmetic."""


CODES_BELOW, CODES_ABOVE = 12, 10
"""Neighbouring codes of a scale that are tried: for E4M3, from a third to 2.4 times as large."""

BlockError = Callable[[Tensor], Tensor]
"""From a difference [rows, cols] to the cost of each block, fp32 [grid rows, grid cols]."""


def squares(block: Block, importance: Tensor | None = None) -> BlockError:
    """The cost Σ importance_j · d_j² of each block; `importance` is fp32 [cols] (all ones where None).

    A block of one row is summed up by halves, so that a kernel can do the same to the last bit: first the two
    halves of the block are added, element by element, then the halves of the result, and so on.
    """

    def cost(difference: Tensor) -> Tensor:
        weighted = difference.square()
        if importance is not None:
            weighted = weighted * importance
        blocks = to_blocks(weighted, block)  # [grid rows, high, grid cols, wide]
        wide = blocks.shape[3]
        return by_halves(blocks[:, 0]) if block.rows == 1 and wide & (wide - 1) == 0 else blocks.sum(dim=(1, 3))

    return cost


def by_halves(x: Tensor) -> Tensor:
    """The sums over the last axis, whose size is a power of two, in the order that `squares` tells."""
    while x.shape[-1] > 1:
        low, high = x.chunk(2, dim=-1)
        x = low + high
    return x[..., 0]


def sweep_amax(
    x: Tensor,
    fmt: TensorFormat,
    amax: Tensor,
    outer_amax: Tensor | None,
    importance: Tensor | None,
    *,
    below: int = CODES_BELOW,
    above: int = CODES_ABOVE,
) -> Tensor:
    """`best_amax` of `swept_amax`, with `squares` as the cost: fp32 [grid rows, grid cols]."""
    candidates = swept_amax(amax, fmt, outer_amax, below=below, above=above)
    return best_amax(x, fmt, candidates, squares(fmt.block, importance), outer_amax)


def best_amax(
    x: Tensor, fmt: TensorFormat, candidates: Tensor, cost: BlockError, outer_amax: Tensor | None = None
) -> Tensor:
    """For each block, the candidate under which quantizing costs least; of equal ones the first.

    Args:
        x: [rows, cols], any float dtype; judged in fp32.
        fmt: a symmetric format.
        candidates: magnitudes, fp32 [n, grid rows, grid cols], n at least 1.
        cost: of the difference between the quantized and the original matrix.
        outer_amax: fp32 [], see `qparams_from_amax`; fixed during the search.

    Returns:
        fp32 [grid rows, grid cols]. A block whose every cost is NaN keeps its first candidate, so that it shows.
    """
    if not len(candidates):
        raise ValueError("a scale search needs at least one candidate")
    exact = x.float()
    # Rows do not touch each other in formats of one-row blocks, so several candidates are one taller matrix.
    together = max(1, _AT_ONCE // max(1, x.numel())) if fmt.block.rows == 1 else 1
    costs = torch.cat([_costs(exact, fmt, some, cost, outer_amax) for some in torch.split(candidates, together)])
    costs = torch.where(costs.isnan(), torch.inf, costs)
    least = costs.amin(0)
    numbers = torch.arange(len(costs), device=costs.device)[:, None, None]
    first = torch.where(costs == least, numbers, len(costs)).amin(0)
    return candidates.gather(0, first[None])[0]


def scaled_amax(amax: Tensor, start: float, stop: float, step: float) -> Tensor:
    """Candidates amax · m, for m = 1 first (so that it wins ties) and then start, start + step, … up to stop.

    Args:
        amax: fp32 [grid rows, grid cols].

    Returns:
        fp32 [n, grid rows, grid cols].

    Raises:
        ValueError: the range makes no sense.
    """
    if not (0 < start <= stop and step > 0 and math.isfinite(stop)):
        raise ValueError(f"a search from {start} to {stop} in steps of {step}: 0 < start ≤ stop and step > 0")
    count = int((stop - start) / step + 1e-9) + 1
    steps = torch.arange(count, dtype=torch.float64, device=amax.device) * step + start
    multiples = torch.cat((torch.ones_like(steps[:1]), steps)).float()  # on the device, nothing is copied to it
    return amax * multiples[:, None, None]


def swept_amax(
    amax: Tensor,
    fmt: TensorFormat,
    outer_amax: Tensor | None = None,
    *,
    below: int = CODES_BELOW,
    above: int = CODES_ABOVE,
) -> Tensor:
    """Candidates that give the neighbouring codes of the stored scale, each from `below` under to `above` over.

    Scales of few bits have few values, so that trying them all is exact where trying multiples of amax is not.
    For E4M3, 8 codes are a factor of 2. The scale that amax itself gives comes first and wins ties.

    Args:
        amax: fp32 [grid rows, grid cols]; a block of zeros keeps 0.
        fmt: a format whose scales are not fp32.
        outer_amax: fp32 [] where the format has two levels.

    Returns:
        fp32 [1 + below + above, grid rows, grid cols].

    Raises:
        FormatError: for fp32 scales: they have too many codes to try.
    """
    element = fmt.inner.element
    if isinstance(element, Float32Element):
        raise FormatError(f"format {fmt.name!r}: its fp32 scales cannot all be tried; search multiples of amax")
    qparams = qparams_from_amax(amax, fmt, outer_amax)
    codes = qparams.scale.view(torch.uint8).to(torch.int16)
    largest = max(code for code in range(2**element.bits) if element.value_of(code) == element.max)
    smallest = 0 if isinstance(element, PowerOfTwoElement) else 1
    lower = torch.arange(-1, -below - 1, -1, dtype=torch.int16, device=amax.device)
    offsets = torch.cat((lower, torch.arange(1, above + 1, dtype=torch.int16, device=amax.device)))
    moved = (codes + offsets[:, None, None]).clamp(smallest, largest).to(torch.uint8)
    scales = decode(moved.view(qparams.scale.dtype), element)
    found = torch.where(amax > 0, _amax_of(scales, fmt, qparams.scale_2), amax)
    return torch.cat((amax[None], found))


def _costs(x: Tensor, fmt: TensorFormat, amaxes: Tensor, cost: BlockError, outer_amax: Tensor | None) -> Tensor:
    """The cost of some candidates [n, grid rows, grid cols], in that shape."""
    many = x.repeat(len(amaxes), 1) if len(amaxes) > 1 else x
    qparams = qparams_from_amax(amaxes.flatten(0, 1), fmt, outer_amax)
    return cost(fake_quantize(many, qparams) - many).view(amaxes.shape)


def _amax_of(scale: Tensor, fmt: TensorFormat, scale_2: Tensor | None) -> Tensor:
    """A magnitude that is turned into exactly this scale.

    For a float scale it is off by two roundings of fp32 at most, far less than half a step of the scale. For a
    power of two it is a power of two, which all three rounding rules keep.
    """
    if isinstance(fmt.inner.element, FloatElement):
        return scale * (fmt.target if scale_2 is None else fmt.target * scale_2)
    power = 2.0 ** (math.frexp(fmt.target)[1] - 1)
    return scale * (power if scale_2 is None else power * scale_2)
