"""Why a scale is pinned: the shortest way through the relations to the operation that demands it."""

from __future__ import annotations

from collections import deque

import numpy as np

from mtcore.errors import TraceError
from mtcore.trace.arena import Arena
from mtcore.trace.engine import LabelPlanes
from mtcore.trace.solver import GAVE_WAY, Solution


def explain_scale(
    planes: LabelPlanes, solution: Solution, parameter: str, axis: int, index: int
) -> tuple[str, ...]:
    """The steps from a slice to its pin, each 'slice = slice: operation in module'; () when it is free."""
    start = _node(planes.arena, parameter, axis, index)
    if solution.label[start] != 0:
        return ()
    steps = _shortest(solution, start)
    sites = planes.relations.sites
    lines = []
    for a, b, site in steps:
        place = "it gives way, one of several free factors" if site == GAVE_WAY else str(sites[site])
        right = "pinned" if b == 0 else f"goes with {planes.arena.describe(b)}"
        lines.append(f"{planes.arena.describe(a)} {right}: {place}")
    return tuple(lines)


def _node(arena: Arena, parameter: str, axis: int, index: int) -> int:
    for role in arena.roles:
        if arena.names[role.param] == parameter and role.axes[-1:] == (axis,) and 0 <= index < role.size:
            return role.base + index
    raise TraceError(f"the forward gave index {index} of axis {axis} of {parameter!r} no scale: was it used?")


def _shortest(solution: Solution, start: int) -> list[tuple[int, int, int]]:
    """Breadth first over signed nodes, from `start` to 0 or to its own inverse."""
    a = np.concatenate([solution.a, solution.b, -solution.a, -solution.b])
    b = np.concatenate([solution.b, solution.a, -solution.b, -solution.a])
    site = np.tile(solution.site, 4)
    order = np.argsort(a, kind="stable")
    a, b, site = a[order], b[order], site[order]
    came: dict[int, tuple[int, int]] = {start: (start, GAVE_WAY)}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        if here in (0, -start):
            return _way_back(came, start, here)
        low, high = np.searchsorted(a, here, side="left"), np.searchsorted(a, here, side="right")
        for there, why in zip(b[low:high].tolist(), site[low:high].tolist(), strict=True):
            if there not in came:
                came[there] = (here, why)
                queue.append(there)
    raise AssertionError("a pinned node without a way to its pin")


def _way_back(came: dict[int, tuple[int, int]], start: int, end: int) -> list[tuple[int, int, int]]:
    steps = []
    while end != start:
        previous, site = came[end]
        steps.append((previous, end, site))
        end = previous
    return steps[::-1]
