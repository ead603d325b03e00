"""Why a scale is pinned: the shortest way through the relations to the operation that demands it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from mtcore.errors import TraceError
from mtcore.trace.arena import Role
from mtcore.trace.copies import copies_of, original_of
from mtcore.trace.engine import LabelPlanes
from mtcore.trace.relations import Ints
from mtcore.trace.solver import GAVE_WAY, Solution


@dataclass(frozen=True)
class AxisPin:
    """How many of the `size` scales along `axes` of a parameter are pinned, and the way of one of them, `index`.

    The last of `axes` is the axis in question; a stack of matrices has its leading axes too. `index` is flat over
    `axes`. Every step of `way` is 'slice = slice: operation in module'; it is () when the scale at `index` is free.
    """

    parameter: str
    axes: tuple[int, ...]
    size: int
    pinned: int
    index: int
    way: tuple[str, ...]


class Explainer:
    """Answers questions about the scales of one solved forward.

    Of a parameter in a block that repeats another one, the answer is that one's, under this one's names.
    """

    def __init__(self, planes: LabelPlanes, solution: Solution) -> None:
        self._arena, self._label, self._copies = planes.arena, solution.label, planes.copies
        self._sites = planes.relations.sites
        self._relations = _Relations(solution)

    def scale(self, parameter: str, axis: int, index: int) -> AxisPin:
        """The scale of one slice.

        Raises:
            TraceError: the forward did not use this axis of the parameter as one with scales.
        """
        copy = original_of(parameter, self._copies)
        if copy is not None:
            original, name = copy
            return _renamed(self.scale(original + parameter.removeprefix(name), axis, index), original, name)
        for role in self._roles(parameter):
            if role.axes[-1:] == (axis,) and 0 <= index < role.size:
                return self._pin(role, index)
        raise TraceError(f"the forward gave index {index} of axis {axis} of {parameter!r} no scale: was it used?")

    def axes(self, parameters: Collection[str]) -> Iterator[AxisPin]:
        """Every axis of these parameters that has scales, with the way of its first pinned one."""
        for role in self._arena.roles:
            own = self._arena.names[role.param]
            copies = [(o, n) for o, n in copies_of(own, self._copies) if n + own.removeprefix(o) in parameters]
            if own not in parameters and not copies:
                continue
            pin = self._pin(role, int(np.argmax(self._labels(role) == 0)))
            if own in parameters:
                yield pin
            yield from (_renamed(pin, original, name) for original, name in copies)

    def _roles(self, parameter: str) -> Iterator[Role]:
        return (role for role in self._arena.roles if self._arena.names[role.param] == parameter)

    def _labels(self, role: Role) -> Ints:
        return self._label[role.base : role.base + role.size]

    def _pin(self, role: Role, index: int) -> AxisPin:
        labels = self._labels(role)
        way = self._way(role.base + index) if labels[index] == 0 else ()
        pinned = int((labels == 0).sum())
        return AxisPin(self._arena.names[role.param], role.axes, role.size, pinned, index, way)

    def _way(self, start: int) -> tuple[str, ...]:
        lines = []
        for a, b, site in self._relations.shortest(start):
            place = "it gives way, one of several free factors" if site == GAVE_WAY else str(self._sites[site])
            right = "pinned" if b == 0 else f"goes with {self._arena.describe(b)}"
            lines.append(f"{self._arena.describe(a)} {right}: {place}")
        return tuple(lines)


def _renamed(pin: AxisPin, original: str, name: str) -> AxisPin:
    whole = re.compile(rf"(?<![\w.]){re.escape(original)}(?![\w])")
    way = tuple(whole.sub(lambda _: name, line) for line in pin.way)
    return replace(pin, parameter=name + pin.parameter.removeprefix(original), way=way)


class _Relations:
    """The solved relations as a graph over signed nodes."""

    def __init__(self, solution: Solution) -> None:
        a = np.concatenate([solution.a, solution.b, -solution.a, -solution.b])
        b = np.concatenate([solution.b, solution.a, -solution.b, -solution.a])
        order = np.argsort(a, kind="stable")
        self._a, self._b, self._site = a[order], b[order], np.tile(solution.site, 4)[order]

    def shortest(self, start: int) -> list[tuple[int, int, int]]:
        """Breadth first from `start` to 0 or to its own inverse."""
        came: dict[int, tuple[int, int]] = {start: (start, GAVE_WAY)}
        queue = deque([start])
        while queue:
            here = queue.popleft()
            if here in (0, -start):
                return _way_back(came, start, here)
            low, high = np.searchsorted(self._a, here, side="left"), np.searchsorted(self._a, here, side="right")
            for there, why in zip(self._b[low:high].tolist(), self._site[low:high].tolist(), strict=True):
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
