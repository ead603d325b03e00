"""SymGroup and BlockGroup: channels that exist together, and heads or experts that are removed as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from mtcore.trace.arena import Arena
from mtcore.trace.relations import Ints, RelationStore, Site, unique
from mtcore.trace.slices import Family, Slices, families, slices_of
from mtcore.trace.solver import components

CONSTANT, DYNAMIC, SEARCHABLE = "constant", "dynamic", "searchable"


@dataclass(frozen=True)
class SymGroup:
    """`size` channels; channel i is removed from every slice in `members`, or from none.

    `state`: searchable (any channel can go), dynamic (it follows something else: a block it belongs to, or
    a statistic that changes with the number of channels), constant (it cannot go; `reason` names the operation).
    """

    name: str
    size: int
    members: tuple[Slices, ...]
    state: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.size} channels, {self.state}{': ' + self.reason if self.reason else ''})"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Reads its part of `TraceReport.to_dict`, also after JSON."""
        members = tuple(map(Slices.from_dict, data["members"]))
        return cls(data["name"], data["size"], members, data["state"], data["reason"])

    @staticmethod
    def name_of(members: Iterable[Slices]) -> str:
        return " + ".join(dict.fromkeys(part.parameter for part in members))

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s.parameter for s in self.members))


@dataclass(frozen=True)
class BlockGroup(SymGroup):
    """As `SymGroup`, where one channel is a block: a head, a group of heads that share keys, an expert.

    `chosen_in`: the module that chooses among the blocks (experts); '' where all of them are used. One that is not
    chosen does nothing, so a model without it is one whose choice never falls on it.
    """

    chosen_in: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Reads its part of `TraceReport.to_dict`, also after JSON."""
        return replace(super().from_dict(data), chosen_in=data["chosen_in"])


def channel_groups(arena: Arena, store: RelationStore) -> tuple[tuple[SymGroup, ...], tuple[BlockGroup, ...]]:
    """The channels and the blocks of a model, from the ties, blocks and marks of its operations."""
    size = arena.size
    tie_a, tie_b, _ = store.ties.arrays()
    stack_a, stack_b = _stacks(arena)
    share_a, share_b, _ = store.shares.arrays()
    block_a, block_b = _between_stacks(arena, *store.blocks.arrays()[:2])
    channel = components(size, np.concatenate([tie_a, stack_a, share_a]), np.concatenate([tie_b, stack_b, share_b]))
    block = components(size, np.concatenate([tie_a, block_a]), np.concatenate([tie_b, block_b]))
    marks = {name: _marked(edges, size) for name, edges in (("frozen", store.frozen), ("reduced", store.reduced))}
    aligned = components(size, tie_a, tie_b)
    channels_in_block = np.bincount(block[unique(aligned)], minlength=size)
    channel[0] = block[0] = 0
    sym = tuple(
        SymGroup(*_describe(arena, family, channel, marks, channels_in_block, block, store.sites))
        for family in families(arena, channel)
        if len(family.roles) > 1 and family.size > 1
    )
    real = np.where(channels_in_block[block] > 1, block, 0)
    alternatives, _, _ = store.choices.arrays()  # of a choice: experts, which are groups of their own
    real[np.isin(block, unique(block[alternatives]))] = 0
    blocks = tuple(
        BlockGroup(*_describe(arena, family, block, marks, None, block, store.sites))
        for family in families(arena, real)
        if len(family.roles) > 1 and family.size > 1
    )
    return sym, blocks


def _stacks(arena: Arena) -> tuple[Ints, Ints]:
    """Stacked matrices have one width: (e, r) goes with (0, r) for every matrix e of the stack."""
    a, b = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for role in arena.roles:
        inner = arena.inner(role)
        if inner:
            nodes = np.arange(role.base, role.base + role.size, dtype=np.int64)
            a.append(nodes)
            b.append(role.base + (nodes - role.base) % inner)
    return np.concatenate(a), np.concatenate(b)


def _between_stacks(arena: Arena, a: Ints, b: Ints) -> tuple[Ints, Ints]:
    """Drops the blocks inside one stack of matrices: its inner channels go for all matrices at once instead."""
    bases = np.array([role.base for role in arena.roles] or [0], np.int64)
    stacked = np.array([len(role.axes) > 1 for role in arena.roles] or [False])
    role_a, role_b = (np.searchsorted(bases, x, side="right") - 1 for x in (a, b))
    keep = ~(stacked[role_a] & stacked[role_b])
    return a[keep], b[keep]


def _marked(edges: Any, size: int) -> Ints:
    """Node by node, 1 + the first site that marked it, or 0."""
    nodes, _, sites = edges.arrays()
    marks = np.zeros(size, np.int64)
    marks[nodes[::-1]] = sites[::-1] + 1
    return marks


def _describe(
    arena: Arena,
    family: Family,
    label: Ints,
    marks: Mapping[str, Ints],
    channels_in_block: Ints | None,
    block: Ints,
    sites: Sequence[Site],
) -> tuple[str, int, tuple[Slices, ...], str, str]:
    members = tuple(slices_of(arena, family, i) for i in range(len(family.roles)))
    name = SymGroup.name_of(members)
    nodes = np.concatenate(family.members)
    state, reason = SEARCHABLE, ""
    frozen = marks["frozen"][nodes]
    if bool(frozen.any()):
        first = int(frozen[frozen > 0].min()) - 1
        state, reason = CONSTANT, f"{sites[first].op} needs them"
    elif bool(marks["reduced"][nodes].any()):
        state, reason = DYNAMIC, "a statistic over the channels"
    elif channels_in_block is not None and bool((channels_in_block[block[nodes]] > 1).any()):
        state, reason = DYNAMIC, "removed by blocks"
    return name, family.size, members, state, reason
