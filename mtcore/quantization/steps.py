"""Steps: what the algorithms of a recipe add to a plan, so that it says beforehand what layers will hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from mtcore.calibration import AlgorithmSpec, resolve_algorithms
from mtcore.calibration.algorithms.max import MAX
from mtcore.errors import first_of
from mtcore.nn import QuantModuleSpec
from mtcore.plan import Finding, Holds, Plan
from mtcore.plugins import Registry


def with_steps(plan: Plan, registry: Registry, holds: Holds) -> Plan:
    """The plan with what its steps add, one after the other; see `AlgorithmSpec.plan`.

    A step that would not reach what one before it split off is a finding of level "error"; scales that a later step
    sets anew, and weights that a step does not treat, are findings of level "warning".

    Args:
        holds: what the target of the run can hold beside codes and scales.

    Raises:
        RecipeError: an unknown algorithm, bad options, or a step after one that rounded weights.
    """
    ranged = ""
    for spec, options in resolve_algorithms(plan.algorithm, registry.algorithms):
        undone = _undone(plan, spec)
        if undone:
            plan = replace(plan, findings=(*plan.findings, Finding("error", "algorithm", undone)))
        elif spec.plan is not None:
            plan = spec.plan(plan, options, holds)
        if ranged and (spec.folds or spec is MAX) and not undone:
            anew = (
                f"{spec.name} sets all scales anew, so that {ranged} before it has no effect; put {ranged} after it"
            )
            plan = replace(plan, findings=(*plan.findings, Finding("warning", "algorithm", anew)))
        plan = replace(plan, findings=(*plan.findings, *_not_treated(plan, spec, registry)))
        ranged = spec.name if spec.plan is None and not (spec.folds or spec.sequential or spec is MAX) else ranged
    return plan


def _undone(plan: Plan, spec: AlgorithmSpec) -> str:
    """What a step that scales or splits weights would not reach of an earlier split; empty where there is none."""
    if not spec.folds and spec.plan is None:
        return ""
    split = next((module.name for module in plan.quantized if module.low_rank), None)
    if split is not None:
        return (
            f"{spec.name} scales or splits weights, but {split} has a low-rank branch from an earlier step, "
            "which it would not reach; put the step with the branch after it"
        )
    return ""


def _not_treated(plan: Plan, spec: AlgorithmSpec, registry: Registry) -> Iterator[Finding]:
    """The weights that an algorithm for linear layers leaves to `max`."""
    left = [
        f"{module.name}.{slot.slot}".lstrip(".")
        for module in (plan.quantized if spec.linear_only else ())
        if module.spec is not None and not _treats(spec, registry.quant_modules[module.spec])
        for slot in module.slots
        if slot.slot in dict(module.shapes)
    ]
    if left:
        treated = "linear layers and stacked experts" if spec.experts else "linear layers"
        message = f"{spec.name} treats {treated}; {first_of(left)} get the scales of max"
        yield Finding("warning", "algorithm", message)


def _treats(algorithm: AlgorithmSpec, layer: QuantModuleSpec) -> bool:
    return issubclass(layer.original, nn.Linear) or (algorithm.experts and layer.found_by == "stacked")
