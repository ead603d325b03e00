"""Nodes: one dense number for every index of every role of every parameter.

A role is the tuple of a parameter's axes that one factor of its transformation depends on:
W'[i, j] = s(i) t(j) W[i, j] has the roles (0,) and (1,); stacked experts W'[e, r, c] = s(e, r) t(e, c) W[e, r, c]
have (0, 1) and (0, 2).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mtcore.trace.planes import CONST, WILD, ParamView, Plane, Shadow, compact, distinct

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Role:
    """Nodes `base .. base + size - 1` belong to `axes` of parameter number `param`, in row-major order."""

    param: int
    axes: Axes
    shape: tuple[int, ...]
    base: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Arena:
    """Hands out node numbers, starting at 1, when a parameter is first used."""

    def __init__(self, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> None:
        self.names, self.shapes = tuple(names), tuple(shapes)
        self.roles: list[Role] = []
        self.layouts: dict[int, tuple[Role, ...]] = {}
        self._starts: list[int] = []
        self.size = 1

    def layout(self, param: int, wanted: Sequence[Axes] | None = None) -> tuple[Role, ...]:
        """The roles of a parameter; the first use decides, `wanted` None means the usual ones.

        Usually every axis longer than one has its own role; of three or more such axes the last two have,
        jointly with all before them (a stack of matrices).
        """
        if param not in self.layouts:
            axes = self.usual(param) if wanted is None else wanted
            self.layouts[param] = tuple(self._add(param, tuple(role)) for role in axes)
        return self.layouts[param]

    def usual(self, param: int) -> list[Axes]:
        long = [axis for axis, n in enumerate(self.shapes[param]) if n > 1]
        if not long:
            return [()]
        if len(long) <= 2:
            return [(axis,) for axis in long]
        return [(*long[:-2], long[-2]), (*long[:-2], long[-1])]

    def _add(self, param: int, axes: Axes) -> Role:
        shape = tuple(self.shapes[param][axis] for axis in axes)
        role = Role(param, axes, shape, self.size)
        self.roles.append(role)
        self._starts.append(role.base)
        self.size += role.size
        return role

    def planes(self, view: ParamView, wanted: Sequence[Axes] | None = None) -> tuple[Plane, ...]:
        """The label planes of a piece of a parameter, one for each of its roles."""
        return tuple(_labels(role, view.coords) for role in self.layout(view.param, wanted))

    def role_of(self, node: int) -> Role:
        """The role that a node number belongs to."""
        return self.roles[bisect.bisect_right(self._starts, node) - 1]

    def inner(self, role: Role) -> int:
        """For a stack of matrices (its roles share leading axes): how many nodes one matrix has; else 0."""
        shared = set.intersection(*(set(r.axes) for r in self.layouts[role.param]))
        if len(self.layouts[role.param]) < 2 or role.axes[: len(shared)] != tuple(sorted(shared)) or not shared:
            return 0
        return math.prod(n for axis, n in zip(role.axes, role.shape, strict=True) if axis not in shared)

    def is_stacked(self, plane: Plane) -> bool:
        """Whether the labels of a plane belong to a stack of matrices, by the first of them."""
        labels = np.abs(distinct(plane)).reshape(-1)
        real = labels[(labels != CONST) & (labels != WILD)]
        return bool(real.size) and self.inner(self.role_of(int(real[0]))) > 0

    def of_first_matrix(self, plane: Plane) -> Plane:
        """Labels with every matrix of a stack taken for the first one."""
        inner = np.array([self.inner(role) for role in self.roles], np.int64)
        if not inner.any():
            return plane
        (small,) = compact([plane])
        labels = small.numpy()
        role = np.searchsorted(np.array(self._starts), labels, side="right") - 1
        base, size = np.array(self._starts)[role], inner[role]
        real = (labels > 0) & (labels < self.size) & (size > 0)
        moved = np.where(real, base + (labels - base) % np.maximum(size, 1), labels)
        return torch.from_numpy(moved).expand(plane.shape)

    def names_any(self, parameters: Collection[str], shadow: Shadow) -> bool:
        """Whether a label of a shadow belongs to one of the named parameters."""
        if shadow.view is not None:
            return self.names[shadow.view.param] in parameters
        theirs = np.array([self.names[role.param] in parameters for role in self.roles] or [False])
        for plane in (*shadow.scale, *shadow.dim):
            labels = np.abs(distinct(plane))
            real = labels[(labels != CONST) & (labels != WILD)]
            if theirs[np.searchsorted(np.array(self._starts), real, side="right") - 1].any():
                return True
        return False

    def describe(self, node: int) -> str:
        """'layers.0.up.weight[axis 0: 17]'; a minus sign for a scale that divides."""
        if node == CONST:
            return "1"
        role = self.role_of(abs(node))
        index = list(_unravel(abs(node) - role.base, role.shape))
        place = ", ".join(f"axis {axis}: {i}" for axis, i in zip(role.axes, index, strict=True))
        return f"{'1/' if node < 0 else ''}{self.names[role.param]}[{place}]"


def _unravel(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    out: list[int] = []
    for n in reversed(shape):
        flat, i = divmod(flat, n)
        out.append(i)
    return tuple(reversed(out))


def _labels(role: Role, coords: Sequence[Plane]) -> Plane:
    shape = coords[0].shape if coords else torch.Size(())
    total: Plane = torch.full((), role.base).expand(shape)
    step = 1
    for axis, n in zip(reversed(role.axes), reversed(role.shape), strict=True):
        a, b = compact([total, coords[axis]])
        total = (a + step * b).expand(shape)
        step *= n
    return total


def whole(param: int, shape: tuple[int, ...]) -> ParamView:
    """The view of a whole parameter: coordinates as broadcast ranges."""
    coords = []
    for axis, n in enumerate(shape):
        line = torch.arange(n).view([n if d == axis else 1 for d in range(len(shape))])
        coords.append(line.expand(shape))
    return ParamView(param, tuple(coords))
