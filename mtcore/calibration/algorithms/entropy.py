"""The `entropy` algorithm: activations are cut off where quantizing loses least information."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from mtcore.calibration.algorithms.max import Amaxes, max_of, with_tensor_amax
from mtcore.calibration.algorithms.ranges import histogram, range_algorithm
from mtcore.calibration.math import entropy_amax, linear_counts
from mtcore.calibration.statistics import TensorStatistics
from mtcore.nn import TensorQuantizer


class EntropyOptions(BaseModel):
    """Options of `entropy`.

    bins: of one width, into which the magnitudes are sorted.
    start: least number of bins that are kept.
    stride: bins between cut-offs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bins: int = Field(2048, ge=2)
    start: int = Field(128, ge=1)
    stride: int = Field(8, ge=1)


def decide(options: EntropyOptions, quantizer: TensorQuantizer, statistics: TensorStatistics) -> Amaxes:
    """Per-tensor scales by least KL divergence; all others as `max` does.

    The outer scale of a two-level format cuts nothing off by itself, so it stays that of `max`.
    """
    plain = max_of(quantizer, statistics)
    if quantizer.format.outer is not None:
        return plain
    assert statistics.counts is not None
    largest = float(statistics.tensor_amax)
    counts = linear_counts(statistics.counts.cpu(), largest, options.bins)
    found = entropy_amax(
        counts, largest / options.bins, quantizer.format.element, start=options.start, stride=options.stride
    )
    return with_tensor_amax(quantizer, plain, torch.tensor(found, device=statistics.amax.device))


ENTROPY = range_algorithm(
    "entropy",
    "cut activations off where quantizing loses least information (KL divergence of histograms)",
    EntropyOptions,
    decide,
    histogram,
    cost="one run of the data, with a histogram of every activation, and a search over cut-offs on the CPU",
)
