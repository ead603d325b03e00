"""The `percentile` algorithm: activations are cut off so that a given share of their values fits."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mtcore.calibration.algorithms.max import Amaxes, max_of, with_tensor_amax
from mtcore.calibration.algorithms.ranges import histogram, range_algorithm
from mtcore.calibration.math import log_percentile
from mtcore.calibration.statistics import TensorStatistics
from mtcore.nn import TensorQuantizer


class PercentileOptions(BaseModel):
    """Options of `percentile`.

    percentile: share of an activation's magnitudes that must fit, in percent; the rest is cut off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    percentile: float = Field(99.99, gt=0, le=100)


def decide(options: PercentileOptions, quantizer: TensorQuantizer, statistics: TensorStatistics) -> Amaxes:
    """Per-tensor scales by the percentile; all others as `max` does."""
    assert statistics.counts is not None
    found = log_percentile(statistics.counts, options.percentile)
    amax: Tensor = statistics.tensor_amax.clamp(max=found)
    return with_tensor_amax(quantizer, max_of(quantizer, statistics), amax)


PERCENTILE = range_algorithm(
    "percentile",
    "cut activations off so that a share of their values fits",
    PercentileOptions,
    decide,
    histogram,
    cost="one run of the data, with a histogram of every activation",
)
