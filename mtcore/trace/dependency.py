"""From relations to groups: what may be rescaled and what must keep its size together."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from mtcore.trace.arena import Role
from mtcore.trace.engine import LabelPlanes
from mtcore.trace.folds import FoldGroup, fold_groups
from mtcore.trace.relations import Ints
from mtcore.trace.solver import Solution, solve_scales


def solve(planes: LabelPlanes, barred: Collection[str] = ()) -> Solution:
    """Solves the scale relations, after pinning what the forward did not show completely.

    Pinned are parameters that are used both with and without an offset, stacks of matrices of which some were not
    reached (experts without a token: what reads the same value as the others is unknown), and `barred` parameters.
    """
    arena = planes.arena
    seen = _seen(planes)
    for role in arena.roles:
        inner = arena.inner(role)
        reached = seen[role.base : role.base + role.size].reshape(-1, inner or role.size).any(axis=1)
        if len(planes.offsets.get(role.param, ())) > 1:
            _pin(planes, role, "used with and without an offset")
        elif reached.any() and not reached.all():
            _pin(planes, role, "a stack of which some matrices were not reached")
        elif arena.names[role.param] in barred:
            _pin(planes, role, "a list of modules of which some were not called")
    return solve_scales(planes.relations, arena.size, _strength(planes))


def _seen(planes: LabelPlanes) -> npt.NDArray[np.bool_]:
    """Which nodes any scale relation mentions."""
    seen = np.zeros(planes.arena.size, np.bool_)
    a, b, _ = planes.relations.scale.arrays()
    for labels in (a, b, *(columns.reshape(-1) for columns, _ in planes.relations.sums)):
        seen[np.abs(labels)] = True
    return seen


def _pin(planes: LabelPlanes, role: Role, why: str) -> None:
    nodes = np.arange(role.base, role.base + role.size)
    planes.relations.scale.add(nodes, np.zeros_like(nodes), planes.relations.site("", why))


def folds_of(planes: LabelPlanes, solution: Solution) -> tuple[FoldGroup, ...]:
    offsets = {param: next(iter(used)) for param, used in planes.offsets.items() if len(used) == 1}
    return fold_groups(planes.arena, solution, offsets)


def _strength(planes: LabelPlanes) -> Ints:
    """How unwelcome a pin is: a factor for each channel (a norm, a depthwise kernel) gives way before a matrix."""
    strength = np.zeros(planes.arena.size, np.int64)
    for role in planes.arena.roles:
        strength[role.base : role.base + role.size] = len(planes.arena.layouts[role.param])
    return strength
