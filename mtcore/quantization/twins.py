"""Twins: copies of a model that share its parameters and hold the quantizers of a plan, so that both can run."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import nn

from mtcore.calibration import Data
from mtcore.plan import Plan
from mtcore.plugins import Registry
from mtcore.quantization.api import StatisticsOf, apply_plan
from mtcore.recipe import AlgorithmStep


def quantized_twin(
    model: nn.Module,
    plan: Plan,
    data: Data | None = None,
    *,
    registry: Registry | None = None,
    statistics: StatisticsOf | None = None,
) -> nn.Module:
    """A copy of the model with a plan carried out: rounded to nearest, with scales from the largest magnitudes.

    The copy has the very parameters and buffers of the model, whose values no algorithm may change for its sake; so
    the algorithm of the plan is not run, but `max`.

    Args:
        data: for static scales of activations.
        statistics: where they come from instead.

    Raises:
        PlanError, CalibrationError: as in `apply_plan`.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    modules = tuple(replace(module, pre_quant_scale=False, low_rank=0) for module in plan)
    only_max = replace(plan, modules=modules, algorithm=(AlgorithmStep("max"),), folds=())
    return apply_plan(twin, only_max, data, registry=registry, statistics=statistics)
