"""The part of a plan that concerns some of its modules."""

from __future__ import annotations

from collections.abc import Callable
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
