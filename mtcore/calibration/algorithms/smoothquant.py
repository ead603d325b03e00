"""The `smoothquant` algorithm: move range from activations into weights, where the trace proves that it may."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mtcore.calibration.algorithms import max as max_algorithm
from mtcore.calibration.algorithms.max import MaxOptions, run_max
from mtcore.calibration.carried import (
    factors_of,
    inputs_to_scale,
    scale_inputs,
    sites_to_scale,
    with_carried_scales,
)
from mtcore.calibration.math import smoothing_scales
from mtcore.calibration.quantizers import matrix_layers, planned_quantizers
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import Needs, Site, joined
from mtcore.calibration.statistics.gather import all_at_once
from mtcore.errors import CalibrationError
from mtcore.numerics import column_amax
from mtcore.plan import Holds, Plan


class SmoothQuantOptions(BaseModel):
    """Options of `smoothquant`.

    alpha: how much of the range moves into the weights, in [0, 1].
    size: what is evened out: the largest magnitudes of the channels ("amax", as published), or their root mean
        squares ("rms"). The error of formats with blocks along the channels follows the latter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(0.5, ge=0, le=1)
    size: Literal["amax", "rms"] = "amax"


def needs_data(plan: Plan) -> bool:
    """Always: the scales come from the activations.

    A plan without linear layers and stacked experts does without.
    """
    return True


def wanted(run: CalibrationRun, options: SmoothQuantOptions) -> dict[Site, Needs]:
    """The sizes of every column of what matrices are multiplied with, and those that `max` wants."""
    layers = matrix_layers(run.model, dict(planned_quantizers(run)))
    sizes = dict.fromkeys(sites_to_scale(run, layers), Needs(moments=options.size == "rms"))
    return joined((sizes, max_algorithm.wanted(run, MaxOptions())))


def run_smoothquant(run: CalibrationRun, options: SmoothQuantOptions) -> None:
    """Smooth every input that a fold reaches or whose layer keeps its scales, then set every amax as `max` does.

    A stacked expert is smoothed as a linear layer. The others stay as they are; the plan names them, and the log
    says how many.

    Raises:
        CalibrationError: no data, or data that is not finite.
    """
    quantizers = dict(planned_quantizers(run))
    layers = matrix_layers(run.model, quantizers)
    run.statistics.need(wanted(run, options))
    reached = 0
    largest: list[Tensor] = []
    for where in inputs_to_scale(run, layers):
        inputs, weights = factors_of(run, where, quantizers)
        if options.size == "amax":
            activation = where.channels_of({key: found.amax for key, found in inputs.items()})
            weight = where.channels_of({key: column_amax(matrix) for key, matrix in weights.items()})
        else:
            activation = where.channels_of({key: found.rms for key, found in inputs.items()})
            squares = {key: matrix.float().square().contiguous().sum(0) for key, matrix in weights.items()}
            weight = where.root_sums(squares)
        scale_inputs(run, where, smoothing_scales(activation, weight, options.alpha, check=False))
        largest.append(weight.amax())  # the statistics have looked at the activations
        reached += len(where.consumers)
    if not all(all_at_once(largest, torch.isfinite)):
        raise CalibrationError("smoothquant: weights of linear layers or experts hold NaN or infinite values")
    run.note(f"smoothquant: smoothed the inputs of {reached} of {len(layers)} weights")
    run_max(run, MaxOptions())


def planned(plan: Plan, options: SmoothQuantOptions, holds: Holds) -> Plan:
    """Which layers keep their scales."""
    return with_carried_scales(plan, "smoothquant", holds)


SMOOTHQUANT = AlgorithmSpec(
    "smoothquant",
    "move range from activations into weights by folded scales",
    SmoothQuantOptions,
    needs_data,
    run_smoothquant,
    wanted,
    folds=True,
    plan=planned,
    cost="one run of the data",
    linear_only=True,
    experts=True,
)
