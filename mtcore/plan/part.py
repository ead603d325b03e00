"""The part of a plan that concerns some of its modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mtcore.errors import PlanError
from mtcore.plan.plan import Plan


def part_of(plan: Plan, belongs: Callable[[str], bool]) -> Plan:
    """The plan of the modules whose names `belongs` accepts, with the groups, folds and streams inside them.

    Raises:
        PlanError: a group of shared scales lies on both sides; each one is named.
    """
    groups, torn = [], []
    for group in plan.groups:
        inside = {belongs(name) for name in group.modules}
        if inside == {True}:
            groups.append(group)
        elif len(inside) > 1:
            torn.append(f"{', '.join(group.modules)} share their {group.slot} scales, but lie in different blocks")
    if torn:
        raise PlanError(torn)
    folds = tuple(fold for fold in plan.folds if all(belongs(name.rpartition(".")[0]) for name in fold.parameters))
    streams = tuple(s for s in plan.streams if all(belongs(name.rpartition(".")[0]) for name in s.parameters))
    modules = tuple(module for module in plan.modules if belongs(module.name))
    return replace(plan, modules=modules, groups=tuple(groups), folds=folds, streams=streams)
