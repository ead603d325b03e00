"""Slices: which indices of a parameter's axes belong to which channel of a group; how classes become groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtcore.trace.arena import Arena
from mtcore.trace.relations import Ints, unique
from mtcore.trace.runs import runs_from, runs_text


@dataclass(frozen=True)
class Slices:
    """`indices[i]`, flat over `axes` of the parameter, belongs to channel `channels[i]` of the group.

    `offset`: the model uses `parameter + offset`.
    """

    parameter: str
    axes: tuple[int, ...]
    indices: tuple[int, ...]
    channels: tuple[int, ...]
    offset: float = 0.0

    @cached_property
    def places(self) -> Tensor:
        """`indices` as int64 [n]; `whole_range(n)` itself where they are 0 … n - 1."""
        return _numbers(np.fromiter(self.indices, np.int64, len(self.indices)))

    @cached_property
    def channel_numbers(self) -> Tensor:
        """`channels` likewise."""
        return _numbers(np.fromiter(self.channels, np.int64, len(self.channels)))

    def of(self, parameter: str) -> Slices:
        """The same slices of another parameter; numbers that were brought into tensors are not brought again."""
        found = replace(self, parameter=parameter)
        vars(found).update(places=self.places, channel_numbers=self.channel_numbers)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; the numbers as runs (`mtcore.trace.runs`), which stay short for wide models."""
        return {
            "parameter": self.parameter,
            "axes": list(self.axes),
            "indices": runs_text(self.indices),
            "channels": runs_text(self.channels),
            "offset": self.offset,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Slices:
        """Reads what `to_dict` made, also after JSON."""
        indices, channels = runs_from(data["indices"]), runs_from(data["channels"])
        return cls(data["parameter"], tuple(data["axes"]), indices, channels, data["offset"])


@dataclass(frozen=True)
class Family:
    """Classes of nodes that have as many members in the same roles: the channels of one group.

    `members[i]` are the nodes of role number `roles[i]` with sign `signs[i]`, `channels[i]` their channels.
    """

    size: int
    roles: tuple[int, ...]
    signs: tuple[int, ...]
    members: tuple[Ints, ...]
    channels: tuple[Ints, ...]
    classes: Ints


def families(arena: Arena, label: Ints) -> list[Family]:
    """Sorts the nodes with a signed class (0: none) into families, by each class's multiset of (role, sign)."""
    nodes = np.flatnonzero(label)
    if not nodes.size:
        return []
    classes, negative = np.abs(label[nodes]), (label[nodes] < 0).astype(np.int64)
    bases = np.array([role.base for role in arena.roles], np.int64)
    kind = 2 * (np.searchsorted(bases, nodes, side="right") - 1) + negative
    order = np.lexsort((nodes, classes))
    nodes, classes, kind = nodes[order], classes[order], kind[order]
    starts = np.flatnonzero(np.diff(classes, prepend=-1))
    counts = np.diff(np.append(starts, classes.size))
    weight = np.random.default_rng(0).integers(0, 1 << 62, 2 * len(arena.roles), dtype=np.uint64)
    signature = np.add.reduceat(weight[kind], starts)  # a sum of random words stands for the multiset
    _, family = np.unique(signature, return_inverse=True)
    rank = _rank_within(family)
    owner = np.repeat(np.arange(starts.size), counts)
    by_family = np.argsort(family[owner], kind="stable")
    edges = np.flatnonzero(np.diff(family[owner][by_family], prepend=-1))
    out = []
    for begin, end in zip(edges, [*edges[1:], by_family.size], strict=True):
        here = by_family[begin:end]
        kinds = unique(kind[here])
        parts = [here[kind[here] == k] for k in kinds]
        out.append(
            Family(
                int(rank[owner[here]].max()) + 1,
                tuple(int(k) // 2 for k in kinds),
                tuple(1 - 2 * (int(k) % 2) for k in kinds),
                tuple(nodes[p] for p in parts),
                tuple(rank[owner[p]] for p in parts),
                unique(classes[here]),
            )
        )
    return sorted(out, key=lambda f: int(f.classes[0]))


def _rank_within(family: Ints) -> Ints:
    """For every class, how many earlier ones are in its family."""
    order = np.argsort(family, kind="stable")
    sorted_family = family[order]
    first = np.searchsorted(sorted_family, sorted_family, side="left")
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size) - first
    return rank


def slices_of(arena: Arena, family: Family, i: int, offset: float = 0.0) -> Slices:
    """The i-th part of a family as slices of its parameter."""
    role = arena.roles[family.roles[i]]
    indices, channels = family.members[i] - role.base, family.channels[i]
    found = Slices(arena.names[role.param], role.axes, tuple(indices.tolist()), tuple(channels.tolist()), offset)
    vars(found).update(places=_numbers(indices), channel_numbers=_numbers(channels))  # they are arrays here
    return found


@lru_cache(maxsize=256)
def whole_range(size: int) -> Tensor:
    """0 … size - 1, int64 [size]: one tensor for each size, so that it is known by its identity."""
    return torch.from_numpy(np.arange(size))  # torch would wake all its threads for this


def _numbers(values: Ints) -> Tensor:
    every = whole_range(len(values))
    return every if np.array_equal(values, every.numpy()) else torch.from_numpy(values.astype(np.int64))
