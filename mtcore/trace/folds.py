"""FoldGroup: which slices of which parameters may be multiplied while which others are divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtcore.trace.arena import Arena
from mtcore.trace.relations import Ints
from mtcore.trace.solver import Solution


@dataclass(frozen=True)
class FoldSide:
    """Slices of one parameter: `indices[i]`, flat over `axes`, belong to channel `channels[i]` of the group.

    `offset`: the model uses `parameter + offset`, so that a scale s turns w into (w + offset) s - offset.
    """

    parameter: str
    axes: tuple[int, ...]
    indices: tuple[int, ...]
    channels: tuple[int, ...]
    offset: float = 0.0


@dataclass(frozen=True)
class FoldGroup:
    """`size` independent positive scales s: slices in `up` times s[channel], slices in `down` divided by it.

    The model's outputs stay the same. Which side is up is a convention: the one that produces the values.
    """

    name: str
    size: int
    up: tuple[FoldSide, ...]
    down: tuple[FoldSide, ...]

    def __str__(self) -> str:
        return f"{self.name} ({self.size} channels)"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FoldGroup:
        """Reads what `dataclasses.asdict` made, also after JSON."""
        up, down = (
            tuple(
                FoldSide(s["parameter"], tuple(s["axes"]), tuple(s["indices"]), tuple(s["channels"]), s["offset"])
                for s in data[side]
            )
            for side in ("up", "down")
        )
        return cls(data["name"], data["size"], up, down)

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(side.parameter for side in (*self.up, *self.down)))


def fold_groups(
    arena: Arena, solution: Solution, offsets: Mapping[int, float], barred: Sequence[int] = ()
) -> tuple[FoldGroup, ...]:
    """Puts the free classes with the same (parameter, axes, sign) members together as one group's channels.

    Args:
        offsets: the number added to a parameter before its use, by parameter.
        barred: parameters whose classes are left out.
    """
    label = solution.label
    nodes = np.flatnonzero(label)
    nodes = nodes[nodes > 0]
    if not nodes.size:
        return ()
    classes = np.abs(label[nodes])
    signs = np.sign(label[nodes])
    bases = np.array([role.base for role in arena.roles] or [0], np.int64)
    role_of = np.searchsorted(bases, nodes, side="right") - 1
    order = np.lexsort((nodes, classes))
    nodes, classes, signs, role_of = nodes[order], classes[order], signs[order], role_of[order]
    starts = np.flatnonzero(np.diff(classes, prepend=-1))
    ends = np.append(starts[1:], classes.size)
    by_shape: dict[tuple[tuple[int, int], ...], list[tuple[int, int]]] = {}
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start < 2:
            continue
        members = list(zip(role_of[start:end].tolist(), signs[start:end].tolist(), strict=True))
        by_shape.setdefault(tuple(sorted(set(members))), []).append((start, end))
    groups = []
    for members_key, spans in by_shape.items():
        params = {arena.roles[r].param for r, _ in members_key}
        if not params & set(barred) and len(members_key) > 1:
            groups.append(_group(arena, members_key, spans, nodes, signs, role_of, offsets))
    return tuple(groups)


def _group(
    arena: Arena,
    key: tuple[tuple[int, int], ...],
    spans: Sequence[tuple[int, int]],
    nodes: Ints,
    signs: Ints,
    role_of: Ints,
    offsets: Mapping[int, float],
) -> FoldGroup:
    picked = np.concatenate([np.arange(a, b) for a, b in spans])
    channel = np.concatenate([np.full(b - a, i) for i, (a, b) in enumerate(spans)])
    first_sign = 1 if _produces(arena, key) else -1
    up: list[FoldSide] = []
    down: list[FoldSide] = []
    for role_number, sign in key:
        role = arena.roles[role_number]
        here = (role_of[picked] == role_number) & (signs[picked] == sign)
        side = FoldSide(
            arena.names[role.param],
            role.axes,
            tuple((nodes[picked][here] - role.base).tolist()),
            tuple(channel[here].tolist()),
            offsets.get(role.param, 0.0),
        )
        (up if sign == first_sign else down).append(side)
    name = " → ".join([" + ".join(s.parameter for s in up), " + ".join(s.parameter for s in down)])
    return FoldGroup(name, len(spans), tuple(up), tuple(down))


def _produces(arena: Arena, key: tuple[tuple[int, int], ...]) -> bool:
    """Whether the positive members are the producers: rows of a matrix, or weights of a norm."""
    votes = 0
    for role_number, sign in key:
        role = arena.roles[role_number]
        last = len(arena.shapes[role.param]) - 1
        produces = len(arena.shapes[role.param]) == 1 or role.axes[-1:] != (last,)
        votes += sign if produces else -sign
    return votes >= 0
