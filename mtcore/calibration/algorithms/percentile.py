"""The `percentile` algorithm: activations are cut off so that a given share of their values fits."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mtcore.calibration.algorithms.max import (
    Amaxes,
    max_of,
    needs_data,
    set_activations,
    set_weights,
    static_activations,
    with_tensor_amax,
)
from mtcore.calibration.math import log_percentile
from mtcore.calibration.quantizers import planned_quantizers
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import Needs, Site, TensorStatistics
from mtcore.nn import TensorQuantizer

NEEDS = Needs(histogram=True)


class PercentileOptions(BaseModel):
    """Options of `percentile`: the share of magnitudes that must fit, in percent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    percentile: float = Field(99.99, gt=0, le=100)


def wanted(run: CalibrationRun, options: PercentileOptions) -> dict[Site, Needs]:
    """The histogram of every activation whose scales are fixed beforehand."""
    return dict.fromkeys(static_activations(dict(planned_quantizers(run))), NEEDS)


def run_percentile(run: CalibrationRun, options: PercentileOptions) -> None:
    """Set per-tensor activation scales by a percentile; all others, and weights, as `max` does.

    Raises:
        CalibrationError: as for `max`.
    """

    def decide(quantizer: TensorQuantizer, statistics: TensorStatistics) -> Amaxes:
        assert statistics.counts is not None
        found = log_percentile(statistics.counts, options.percentile)
        amax: Tensor = statistics.tensor_amax.clamp(max=found)
        return with_tensor_amax(quantizer, max_of(quantizer, statistics), amax)

    quantizers = dict(planned_quantizers(run))
    set_activations(run, quantizers, decide, NEEDS)
    set_weights(run, quantizers)


PERCENTILE = AlgorithmSpec(
    "percentile",
    "cut activations off so that a share of their values fits",
    PercentileOptions,
    needs_data,
    run_percentile,
    wanted,
)
