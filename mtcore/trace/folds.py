"""FoldGroup: which slices of which parameters may be multiplied while which others are divided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mtcore.trace.arena import Arena
from mtcore.trace.slices import Family, Slices, families, slices_of
from mtcore.trace.solver import Solution


@dataclass(frozen=True)
class FoldGroup:
    """`size` independent positive scales s: slices in `up` times s[channel], slices in `down` divided by it.

    The model's outputs stay the same. Which side is up is a convention: the one that produces the values.
    With an `offset` in a slice the model uses w + offset, and w becomes (w + offset) s - offset.
    """

    name: str
    size: int
    up: tuple[Slices, ...]
    down: tuple[Slices, ...]

    def __str__(self) -> str:
        return f"{self.name} ({self.size} channels)"

    @classmethod
    def of(cls, size: int, up: tuple[Slices, ...], down: tuple[Slices, ...]) -> Self:
        """Names the group after its parameters."""
        name = " → ".join(" + ".join(dict.fromkeys(s.parameter for s in side)) for side in (up, down))
        return cls(name, size, up, down)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Reads its part of `TraceReport.to_dict`, also after JSON."""
        up, down = (tuple(map(Slices.from_dict, data[side])) for side in ("up", "down"))
        return cls(data["name"], data["size"], up, down)

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(side.parameter for side in (*self.up, *self.down)))


def fold_groups(arena: Arena, solution: Solution, offsets: Mapping[int, float]) -> tuple[FoldGroup, ...]:
    """The free classes of a solution; those with members in the same places are the channels of one group.

    Args:
        offsets: the number added to a parameter before its use, by parameter.
    """
    return tuple(
        _group(arena, family, offsets)
        for family in families(arena, solution.label)
        if len(family.roles) > 1 and not _is_gauge(arena, family)
    )


def _is_gauge(arena: Arena, family: Family) -> bool:
    """Rows times s and columns divided by s: the same matrix again, no fold."""
    roles = [arena.roles[r] for r in family.roles]
    whole = all(len(nodes) == role.size for nodes, role in zip(family.members, roles, strict=True))
    return family.size == 1 and len({r.param for r in roles}) == 1 and whole


def _group(arena: Arena, family: Family, offsets: Mapping[int, float]) -> FoldGroup:
    up_sign = 1 if _produces(arena, family) else -1
    sides: dict[int, list[Slices]] = {1: [], -1: []}
    for i, sign in enumerate(family.signs):
        offset = offsets.get(arena.roles[family.roles[i]].param, 0.0)
        sides[sign * up_sign].append(slices_of(arena, family, i, offset))
    return FoldGroup.of(family.size, tuple(sides[1]), tuple(sides[-1]))


def _produces(arena: Arena, family: Family) -> bool:
    """Whether the positive members are the producers: rows of a matrix, or the weight of a norm."""
    votes = 0
    for role_number, sign in zip(family.roles, family.signs, strict=True):
        role = arena.roles[role_number]
        last = len(arena.shapes[role.param]) - 1
        produces = last == 0 or role.axes[-1:] != (last,)
        votes += sign if produces else -sign
    return votes >= 0
