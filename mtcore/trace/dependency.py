"""From relations to groups: what may be rescaled and what must keep its size together."""

from __future__ import annotations

import numpy as np

from mtcore.trace.engine import LabelPlanes
from mtcore.trace.folds import FoldGroup, fold_groups
from mtcore.trace.relations import Ints
from mtcore.trace.solver import Solution, solve_scales


def solve(planes: LabelPlanes) -> Solution:
    """Solves the scale relations. A parameter that is used both with and without an offset is pinned."""
    arena = planes.arena
    site = planes.relations.site("", "used with and without an offset")
    for role in arena.roles:
        if len(planes.offsets.get(role.param, ())) > 1:
            nodes = np.arange(role.base, role.base + role.size)
            planes.relations.scale.add(nodes, np.zeros_like(nodes), site)
    return solve_scales(planes.relations, arena.size, _strength(planes))


def folds_of(planes: LabelPlanes, solution: Solution) -> tuple[FoldGroup, ...]:
    offsets = {param: next(iter(used)) for param, used in planes.offsets.items() if len(used) == 1}
    return fold_groups(planes.arena, solution, offsets)


def _strength(planes: LabelPlanes) -> Ints:
    """How unwelcome a pin is: vectors give way before matrices."""
    strength = np.zeros(planes.arena.size, np.int64)
    for role in planes.arena.roles:
        rank = sum(n > 1 for n in planes.arena.shapes[role.param])
        strength[role.base : role.base + role.size] = rank
    return strength
