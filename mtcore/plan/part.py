"""The part of a plan that concerns some of its modules, and a plan that leaves some as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from mtcore.errors import PlanError
from mtcore.plan.plan import Plan


def part_of(plan: Plan, belongs: Callable[[str], bool]) -> Plan:
    """The plan of the modules whose names `belongs` accepts, with the groups, folds and streams inside them.

    A group of inputs that lies on both sides is cut: its members read one value, so that each part of it comes to
    the same scale by itself.

    Raises:
        PlanError: a group of weights that share their scale lies on both sides; each one is named.
    """
    groups, torn = [], []
    for group in plan.groups:
        inside = tuple(filter(belongs, group.modules))
        if inside == group.modules or (group.slot == "input" and len(inside) > 1):
            groups.append(replace(group, modules=inside))
        elif inside and group.slot != "input":
            torn.append(f"{', '.join(group.modules)} share their {group.slot} scales, but lie in different blocks")
    if torn:
        raise PlanError(torn)
    folds = tuple(fold for fold in plan.folds if all(belongs(name.rpartition(".")[0]) for name in fold.parameters))
    streams = tuple(s for s in plan.streams if all(belongs(name.rpartition(".")[0]) for name in s.parameters))
    modules = tuple(module for module in plan.modules if belongs(module.name))
    return replace(plan, modules=modules, groups=tuple(groups), folds=folds, streams=streams)


def without(plan: Plan, names: Collection[str]) -> Plan:
    """The plan with these modules left as they are, and without its findings on them.

    Groups that one of them is in are dissolved: take all of a group, or none.
    """
    modules = tuple(
        replace(module, slots=(), pre_quant_scale=False, low_rank=0) if module.name in names else module
        for module in plan.modules
    )
    groups = tuple(group for group in plan.groups if not any(name in names for name in group.modules))
    kept = {group.name for group in groups}
    modules = tuple(
        replace(module, slots=tuple(s if s.group in kept else replace(s, group=None) for s in module.slots))
        for module in modules
    )
    findings = tuple(finding for finding in plan.findings if finding.where not in names)
    return replace(plan, modules=modules, groups=groups, findings=findings)
