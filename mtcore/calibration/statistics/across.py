"""Statistics across ranks: what all ranks saw together, the same on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mtcore.calibration.math import log_counts
from mtcore.calibration.ranks import Ranks
from mtcore.calibration.statistics.needs import Needs, Site, Wanted
from mtcore.calibration.statistics.record import TensorStatistics


@dataclass(frozen=True)
class _Facts:
    """What ranks tell each other of a value before tensors are exchanged."""

    tokens: int
    batches: int
    columns: int
    cols: int
    sampled: int
    stride: int
    dtype: torch.dtype | None
    device: str


def across_ranks(
    found: Mapping[Site, TensorStatistics], wanted: Wanted, ranks: Ranks
) -> dict[Site, TensorStatistics]:
    """The statistics of every site that any rank reached.

    Args:
        found: what this rank gathered; it may lack sites that its data did not reach.
        wanted: the same on all ranks; every site is gathered with the same needs.
    """
    told = ranks.every({site: _facts(found[site]) for site in wanted if site in found})
    result: dict[Site, TensorStatistics] = {}
    for site, needs in wanted.items():
        known = [facts[site] for facts in told if site in facts]
        if known:
            own = found.get(site)
            result[site] = _joined(_empty(needs, known) if own is None else own, needs, known, ranks)
    return result


def _facts(own: TensorStatistics) -> _Facts:
    cols = next((len(t) for t in (own.total, own.gram) if t is not None), len(own.amax))
    sample = own.sample
    return _Facts(
        own.tokens,
        own.batches,
        len(own.amax),
        cols if sample is None else sample.shape[1],
        0 if sample is None else len(sample),
        own.stride,
        None if sample is None else sample.dtype,
        own.amax.device.type,
    )


def _empty(needs: Needs, known: list[_Facts]) -> TensorStatistics:
    """Of a rank that did not see the value: what changes nothing."""
    first = known[0]
    device, cols = torch.device(first.device), first.cols
    zeros, bins = torch.zeros(cols, device=device), torch.zeros_like(log_counts(torch.zeros(1, device=device)))
    return TensorStatistics(
        0,
        0,
        torch.zeros(min(facts.columns for facts in known), device=device),
        torch.full((), torch.inf, device=device),
        zeros if needs.moments else None,
        zeros if needs.moments else None,
        bins if needs.histogram else None,
        dict.fromkeys(needs.blocks, bins),
        torch.zeros(0, cols, dtype=first.dtype, device=device) if first.dtype is not None else None,
        1,
        torch.zeros(cols, cols, device=device) if needs.gram else None,
    )


def _joined(own: TensorStatistics, needs: Needs, known: list[_Facts], ranks: Ranks) -> TensorStatistics:
    amax = own.amax
    if len(amax) != min(facts.columns for facts in known):  # on some rank the columns changed from batch to batch
        amax = amax.amax()[None]

    def total(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else ranks.total(tensor)

    sample, stride = _sampled(own, needs, known, ranks)
    return TensorStatistics(
        sum(facts.tokens for facts in known),
        sum(facts.batches for facts in known),
        ranks.largest(amax),
        ranks.smallest(own.least),
        total(own.total),
        total(own.squares),
        total(own.counts),
        {width: ranks.total(counts) for width, counts in own.block_counts.items()},
        sample,
        stride,
        total(own.gram),
    )


def _sampled(own: TensorStatistics, needs: Needs, known: list[_Facts], ranks: Ranks) -> tuple[Tensor | None, int]:
    """The rows of all ranks, one rank after the other; every n-th of them where they are more than are needed."""
    if own.sample is None:
        return None, 1
    rows = torch.cat([part.to(own.sample.device) for part in ranks.every(own.sample.cpu())])
    stride = max(facts.stride for facts in known)
    thin = -(-len(rows) // needs.sample) if needs.sample else 1
    return rows[::thin].clone(), stride * thin
