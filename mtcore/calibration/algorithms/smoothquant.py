"""The `smoothquant` algorithm: move range from activations into weights, where the trace proves that it may."""

from __future__ import annotations

import logging

from pydantic import BaseModel, ConfigDict, Field

from mtcore.calibration.algorithms.max import MaxOptions, run_max
from mtcore.calibration.folding import fold, scaled_inputs
from mtcore.calibration.inputs import collect_inputs
from mtcore.calibration.math import smoothing_scales
from mtcore.calibration.quantizers import linear_layers, planned_quantizers
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.plan import Plan

LOG = logging.getLogger(__name__)


class SmoothQuantOptions(BaseModel):
    """Options of `smoothquant`: `alpha`, how much of the range moves into the weights, in [0, 1]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(0.5, ge=0, le=1)


def needs_data(plan: Plan) -> bool:
    """Always: the scales come from the activations."""
    return True


def run_smoothquant(run: CalibrationRun, options: SmoothQuantOptions) -> None:
    """Smooth every input that a fold of the trace reaches, then set every amax as `max` does.

    Inputs that no fold reaches stay as they are; the log says how many.

    Raises:
        CalibrationError: no data, or data that is not finite.
    """
    quantizers = dict(planned_quantizers(run))
    layers = linear_layers(run.model, quantizers)
    statistics = collect_inputs(run, quantizers, layers, sample=0)
    reached = 0
    for where in scaled_inputs(run.plan.folds, layers):
        activation = where.channels_of({name: statistics[name].amax for name in where.consumers})
        weight = where.channels_of(
            {name: layers[name].get_parameter("weight").detach().float().abs().amax(0) for name in where.consumers}
        )
        fold(run.model, run.edits, where, smoothing_scales(activation, weight, options.alpha))
        reached += len(where.consumers)
    LOG.info("smoothquant: smoothed the inputs of %d of %d linear layers", reached, len(layers))
    run_max(run, MaxOptions())


SMOOTHQUANT = AlgorithmSpec(
    "smoothquant",
    "move range from activations into weights by folded scales",
    SmoothQuantOptions,
    needs_data,
    run_smoothquant,
)
