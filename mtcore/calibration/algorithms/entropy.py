"""The `entropy` algorithm: activations are cut off where quantizing loses least information."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from mtcore.calibration.algorithms.max import (
    Amaxes,
    max_of,
    needs_data,
    set_activations,
    set_weights,
    static_activations,
    with_tensor_amax,
)
from mtcore.calibration.math import entropy_amax, linear_counts
from mtcore.calibration.quantizers import planned_quantizers
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import Needs, Site, TensorStatistics
from mtcore.nn import TensorQuantizer

NEEDS = Needs(histogram=True)


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


def wanted(run: CalibrationRun, options: EntropyOptions) -> dict[Site, Needs]:
    """The histogram of every activation whose scales are fixed beforehand."""
    return dict.fromkeys(static_activations(dict(planned_quantizers(run))), NEEDS)


def run_entropy(run: CalibrationRun, options: EntropyOptions) -> None:
    """Set per-tensor activation scales by least KL divergence; all others, and weights, as `max` does.

    The outer scale of a two-level format cuts nothing off by itself, so it stays that of `max`.

    Raises:
        CalibrationError: as for `max`.
    """

    def decide(quantizer: TensorQuantizer, statistics: TensorStatistics) -> Amaxes:
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

    quantizers = dict(planned_quantizers(run))
    set_activations(run, quantizers, decide, NEEDS)
    set_weights(run, quantizers)


ENTROPY = AlgorithmSpec(
    "entropy",
    "cut activations off where quantizing loses least information",
    EntropyOptions,
    needs_data,
    run_entropy,
    wanted,
)
