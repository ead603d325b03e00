"""RelationStore: what the operations of a forward demand of scales and channels, with the place that demands it."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mtcore.trace.planes import WILD, Plane, compact, same

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Site:
    """Where a demand comes from: the module that was running and the operation."""

    module: str
    op: str

    def __str__(self) -> str:
        return f"{self.op} in {self.module or 'the model'}"


class Edges:
    """Pairs of labels in append-only chunks, each with its site."""

    def __init__(self) -> None:
        self._chunks: list[tuple[Ints, Ints, int]] = []

    def add(self, a: Ints, b: Ints, site: int) -> None:
        if a.size:
            self._chunks.append((a, b, site))

    def arrays(self) -> tuple[Ints, Ints, Ints]:
        """All pairs as (a, b, site)."""
        if not self._chunks:
            none = np.zeros(0, np.int64)
            return none, none, none
        sites = [np.full(a.size, site, np.int64) for a, _, site in self._chunks]
        return (
            np.concatenate([a for a, _, _ in self._chunks]),
            np.concatenate([b for _, b, _ in self._chunks]),
            np.concatenate(sites),
        )


class RelationStore:
    """Demands on scales: signed sums of labels are zero. Demands on channels: ties, blocks, marks.

    `scale` holds pairs (a, b) with sigma(a) = sigma(b), b = 0 for a pin; `sums` holds what has three or more terms.
    `ties` holds channels that exist together, `shares` those of which one serves several, `blocks` channels that
    are removed together though not aligned, `frozen` and `reduced` pairs (a, 0): channels that cannot be removed,
    or not without changing a statistic; `choices` pairs (a, 0) of alternatives of which the largest are taken,
    `picks` those of a maximum whose place is used. `pieces`: parameter number → first and last row of each run of
    whole rows that was used alone.
    """

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self._site_ids: dict[Site, int] = {}
        self.scale, self.ties, self.shares, self.blocks, self.frozen, self.reduced, self.choices, self.picks = (
            Edges() for _ in range(8)
        )
        self.pieces: dict[int, set[tuple[int, int]]] = {}
        self._places: list[tuple[weakref.ref[Tensor], Plane, int]] = []
        self.sums: list[tuple[Ints, int]] = []

    def site(self, module: str, op: str) -> int:
        key = Site(module, op)
        if key not in self._site_ids:
            self._site_ids[key] = len(self.sites)
            self.sites.append(key)
        return self._site_ids[key]

    def zero(self, plus: Sequence[Plane], minus: Sequence[Plane], site: int) -> None:
        """The sum of labels `plus` less the sum of labels `minus` is zero, at every element without a WILD."""
        plus, minus = _cancel(plus, minus)
        terms = [*plus, *minus]
        if not terms or terms[0].numel() == 0:
            return
        columns = np.stack([flat(p) for p in compact(terms)])
        columns = columns[:, ~(columns == WILD).any(0)]
        columns[len(plus) :] *= -1
        for a, b, rest in split_terms(columns):
            self.scale.add(a, b, site)
            if rest.size:
                self.sums.append((rest, site))

    def tie(self, a: Plane, b: Plane, site: int) -> None:
        """Channels at the same place exist together; places without a channel in either demand nothing."""
        self._pairs(self.ties, a, b, site)

    def share(self, a: Plane, b: Plane, site: int) -> None:
        """As `tie`, for a channel that serves several: it goes only with all of them."""
        self._pairs(self.shares, a, b, site)

    def block(self, a: Plane, b: Plane, site: int) -> None:
        """Channels at the same place are removed together."""
        self._pairs(self.blocks, a, b, site)

    def freeze(self, plane: Plane, site: int) -> None:
        """These channels cannot be removed."""
        self._mark(self.frozen, plane, site)

    def choose(self, plane: Plane, site: int) -> None:
        """These channels are alternatives of a choice."""
        self._mark(self.choices, plane, site)

    def place(self, where: Tensor, plane: Plane, site: int) -> None:
        """Of these channels `where` tells the largest: alternatives of a choice as soon as anything reads it."""
        self._places.append((weakref.ref(where), plane, site))

    def read(self, operands: Iterable[Tensor]) -> None:
        """An operation reads these tensors."""
        if not self._places:
            return
        theirs = {id(operand) for operand in operands}
        waiting = [(ref, ref(), plane, site) for ref, plane, site in self._places]
        for _, where, plane, site in waiting:
            if where is not None and id(where) in theirs:
                self._mark(self.picks, plane, site)
        self._places = [
            (ref, plane, site)
            for ref, where, plane, site in waiting
            if where is not None and id(where) not in theirs
        ]

    def reduce(self, plane: Plane, site: int) -> None:
        """A statistic over these channels changes with their number."""
        self._mark(self.reduced, plane, site)

    def _pairs(self, edges: Edges, a: Plane, b: Plane, site: int) -> None:
        if same(a, b) or a.numel() == 0:
            return
        x, y = (flat(p) for p in compact([a, b]))
        keep = (x != y) & (x != WILD) & (y != WILD) & (x != 0) & (y != 0)
        edges.add(*_unique_pairs(np.abs(x[keep]), np.abs(y[keep])), site)

    def _mark(self, edges: Edges, plane: Plane, site: int) -> None:
        (small,) = compact([plane])
        labels = unique(np.abs(flat(small)))
        labels = labels[(labels != 0) & (labels != WILD)]
        edges.add(labels, np.zeros_like(labels), site)


def unique(values: Ints) -> Ints:
    """Sorted, each once; by sorting, which for many labels is faster than the hash table of `numpy.unique`."""
    ordered = np.sort(values, axis=None)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))] if ordered.size else ordered


def flat(plane: Tensor) -> Ints:
    """The labels of a plane in one line."""
    return np.asarray(plane.reshape(-1).numpy(), dtype=np.int64)


def _cancel(plus: Sequence[Plane], minus: Sequence[Plane]) -> tuple[list[Plane], list[Plane]]:
    """Drops planes that stand on both sides."""
    left, right = list(plus), list(minus)
    for plane in plus:
        for other in right:
            if same(plane, other):
                left = [p for p in left if p is not plane]
                right = [p for p in right if p is not other]
                break
    return left, right


def _unique_pairs(a: Ints, b: Ints) -> tuple[Ints, Ints]:
    if a.size < 2:
        return a, b
    keys = unique((a << 32) ^ (b & 0xFFFFFFFF))
    low = (keys & 0xFFFFFFFF).astype(np.uint32).astype(np.int32).astype(np.int64)
    return (keys - (low & 0xFFFFFFFF)) >> 32, low


def split_terms(columns: Ints) -> list[tuple[Ints, Ints, Ints]]:
    """Columns of signed labels that sum to zero, as pairs (a, b) with equal scale and a rest with more terms.

    Opposite labels cancel first. Pairs are unique, and so are the columns of the rest.
    """
    columns = _cancel_columns(columns)
    none = np.zeros(0, np.int64)
    if columns.shape[0] <= 2:
        a = columns[0]
        b = -columns[1] if columns.shape[0] == 2 else np.zeros_like(a)
        keep = a != b
        return [(*_unique_pairs(a[keep], b[keep]), columns[:0, :0])]
    terms = (columns != 0).sum(0)
    few = np.sort(np.abs(columns[:, terms <= 2]), axis=0)
    order = np.argsort(np.abs(columns[:, terms <= 2]), axis=0, kind="stable")
    few = np.take_along_axis(columns[:, terms <= 2], order, axis=0)
    a, b = (few[-1], -few[-2]) if few.size else (none, none)
    keep = a != b
    return [(*_unique_pairs(a[keep], b[keep]), np.unique(columns[:, terms > 2], axis=1))]


def _cancel_columns(columns: Ints) -> Ints:
    columns = columns.copy()
    for i in range(len(columns)):
        for j in range(i + 1, len(columns)):
            opposite = (columns[i] == -columns[j]) & (columns[i] != 0)
            columns[i][opposite] = 0
            columns[j][opposite] = 0
    used = columns.any(axis=1)
    return columns[used] if used.any() else columns[:1]
