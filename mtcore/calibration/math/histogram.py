"""Histograms of magnitudes: where to cut them off, by share or by information lost."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.errors import CalibrationError
from mtcore.formats import CodedElement, PowerOfTwoElement
from mtcore.numerics.log_counts import log_edges


def entropy_amax(
    counts: Tensor, width: float, element: CodedElement, *, start: int = 128, stride: int = 8
) -> float:
    """The cut-off under which the quantized distribution loses least information about the original one.

    For every cut-off of `start`, `start + stride`, … bins: P is the histogram cut there, the rest piled onto its
    last bin; Q gives all non-empty bins of the cut histogram that round to one value of the element the mean of
    their counts. The cut-off with the least KL(P‖Q) wins (Migacz 2017, "8-bit inference with TensorRT", GTC),
    here for any element, not only for integers.

    Args:
        counts: [bins], values with magnitude in [i · width, (i + 1) · width).
        width: of a bin.
        element: of the codes; its own values decide which bins fall together.
        start: least number of bins kept.
        stride: bins between cut-offs.

    Raises:
        CalibrationError: the histogram is empty.
    """
    _total(counts)
    if isinstance(element, PowerOfTwoElement):
        raise ValueError(f"{element.name} holds scales, not values")
    bins = int(counts.nonzero().max()) + 1
    cuts = [*range(min(start, bins), bins, stride), bins]
    counted = counts.double()
    values = torch.tensor(sorted({v for v in element.values if 0 <= v <= element.max}), dtype=torch.float64)
    edges = (values[1:] + values[:-1]) / 2
    costs = torch.stack([_divergence(counted, cut, edges.to(counts.device), element.max) for cut in cuts])
    chosen: int = cuts[int(costs.argmin())]
    return width * chosen


def _divergence(counts: Tensor, cut: int, edges: Tensor, largest: float) -> Tensor:
    kept = counts[:cut]
    p = kept.clone()
    p[-1] += counts[cut:].sum()
    middles = (torch.arange(cut, dtype=torch.float64, device=counts.device) + 0.5) * (largest / cut)
    code = torch.bucketize(middles, edges)
    occupied = (p > 0).double()
    codes = len(edges) + 1
    totals = torch.zeros(codes, dtype=torch.float64, device=counts.device).index_add_(0, code, kept)
    members = torch.zeros_like(totals).index_add_(0, code, occupied)
    q = (totals / members.clamp(min=1))[code] * occupied
    # Q is zero where only the pile of the last bin is: a tiny floor keeps that divergence finite.
    p, q = p / p.sum(), q / q.sum().clamp(min=1e-300)
    return torch.where(p > 0, p * (p.clamp(min=1e-300) / q.clamp(min=1e-12)).log(), 0.0).sum()


def _total(counts: Tensor) -> float:
    total = float(counts.sum())
    if total <= 0:
        raise CalibrationError("an empty histogram: no value was seen")
    return total


def linear_counts(counts: Tensor, amax: float, bins: int = 2048) -> Tensor:
    """The histogram of `log_counts` on bins of one width, amax / bins: fp64 [bins].

    The values of a bin are spread evenly between its edges; nothing lies above `amax`.
    """
    edges = log_edges(counts.device).double()
    edges[-1] = torch.inf
    edges = edges.clamp(max=amax)
    below = torch.cat((counts.new_zeros(1), counts.cumsum(0))).double()
    last = int((edges < amax).sum())  # the first edge at amax: all values lie below it
    below[last] = counts.sum()
    wanted = torch.linspace(0, amax, bins + 1, dtype=torch.float64, device=counts.device)
    place = torch.searchsorted(edges, wanted, right=True).clamp(1, last)
    low, high = edges[place - 1], edges[place]
    share = ((wanted - low) / (high - low)).clamp(0, 1)
    cumulative = below[place - 1] + share * (below[place] - below[place - 1])
    return cumulative.diff()


def log_percentile(counts: Tensor, percentile: float, *, skip_zeros: bool = False) -> float:
    """The upper edge of the bin of `log_counts` that holds the nearest-rank `percentile` of the values.

    Args:
        skip_zeros: leave the lowest bin out.

    Raises:
        CalibrationError: no value was counted.
    """
    if skip_zeros:
        counts = torch.cat((counts.new_zeros(1), counts[1:]))
    total = _total(counts)
    reached = counts.cumsum(0).double() >= max(1.0, total * (percentile / 100) * (1 - 1e-12))
    return float(log_edges(counts.device)[int(reached.int().argmax()) + 1])
