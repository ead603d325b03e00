"""Steps: what the algorithms of a recipe add to a plan, so that it says beforehand what layers will hold."""

from __future__ import annotations

from dataclasses import replace

from mtcore.calibration import resolve_algorithms
from mtcore.plan import Finding, Holds, Plan
from mtcore.plugins import Registry


def with_steps(plan: Plan, registry: Registry, holds: Holds) -> Plan:
    """The plan with what its steps add, one after the other; see `AlgorithmSpec.plan`.

    Args:
        holds: what the target of the run can hold beside codes and scales.

    Raises:
        RecipeError: an unknown algorithm, or bad options.
    """
    for spec, options in resolve_algorithms(plan.algorithm, registry.algorithms):
        split = next((module.name for module in plan.quantized if module.low_rank), None)
        if split is not None and (spec.folds or spec.plan is not None):
            message = (
                f"{spec.name} scales or splits weights, but {split} has a low-rank branch from an earlier step, "
                "which it would not reach; put the step with the branch after it"
            )
            plan = replace(plan, findings=(*plan.findings, Finding("error", "algorithm", message)))
        elif spec.plan is not None:
            plan = spec.plan(plan, options, holds)
    return plan
