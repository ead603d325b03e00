"""Range algorithms: they decide where activations are cut off, and leave all else to `max`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import BaseModel

from mtcore.calibration.algorithms.max import Amaxes, needs_data, set_activations, set_weights, static_activations
from mtcore.calibration.quantizers import planned_quantizers
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import Needs, Site, TensorStatistics
from mtcore.nn import TensorQuantizer

Range = Callable[[Any, TensorQuantizer, TensorStatistics], Amaxes]
"""From the options, and the quantizer and statistics of an activation, to its magnitudes."""


def range_algorithm(
    name: str,
    summary: str,
    options: type[BaseModel],
    decide: Range,
    needs: Callable[[TensorQuantizer], Needs],
    *,
    cost: str = "",
) -> AlgorithmSpec:
    """The record of an algorithm that sets the amax of every activation whose scales are fixed beforehand.

    Weights are set as `max` does, and what that raises is raised here; after an earlier step they stay as it left
    them.

    Args:
        decide: what is set.
        needs: statistics of an activation that `decide` reads.
    """

    def wanted(run: CalibrationRun, _: BaseModel) -> dict[Site, Needs]:
        quantizers = static_activations(dict(planned_quantizers(run)))
        return {site: needs(quantizer) for site, quantizer in quantizers.items()}

    def run_ranges(run: CalibrationRun, chosen: BaseModel) -> None:
        quantizers = dict(planned_quantizers(run))
        run.statistics.need(wanted(run, chosen))
        set_activations(run, quantizers, partial(decide, chosen))
        if run.first:
            set_weights(run, quantizers)

    return AlgorithmSpec(name, summary, options, needs_data, run_ranges, wanted, cost=cost)


def histogram(quantizer: TensorQuantizer) -> Needs:
    """How many values have which magnitude."""
    return Needs(histogram=True)
