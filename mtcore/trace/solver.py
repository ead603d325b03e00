"""Solving the relations: signed classes of nodes with one common scale, by connected components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtcore.trace.relations import Ints, RelationStore, split_terms, unique


def components(size: int, a: Ints, b: Ints) -> Ints:
    """The smallest member of every node's connected component, for edges (a[i], b[i]).

    Hook and jump: every root is hooked to its smallest neighbouring root, then all paths are halved until flat.

    Example:
        >>> components(5, np.array([0, 3]), np.array([2, 4])).tolist()
        [0, 1, 0, 3, 3]
    """
    root = np.arange(size, dtype=np.int64)
    high, low = np.maximum(a, b), np.minimum(a, b)
    while (live := high != low).any():
        high, low = high[live], low[live]
        np.minimum.at(root, high, low)  # the smallest: a hub with many neighbours would need a round for each
        while not np.array_equal(jumped := root[root], root):
            root = jumped
        high, low = np.maximum(root[high], root[low]), np.minimum(root[high], root[low])
    return root


@dataclass(frozen=True)
class Solution:
    """`label[n]` is the signed class of node n: 0 when its scale is pinned to one.

    `a`, `b`, `site` are the equalities that were used; site `GAVE_WAY` marks a pin that made a sum solvable.
    """

    label: Ints
    a: Ints
    b: Ints
    site: Ints

    def of(self, signed: Ints) -> Ints:
        """The signed classes of signed labels."""
        return np.sign(signed) * self.label[np.abs(signed)]


GAVE_WAY = -1


def solve_scales(store: RelationStore, size: int, weak: Ints) -> Solution:
    """Finds the classes of nodes whose scales are tied together.

    Relations of three or more terms are kept until the others are solved. What is pinned by then drops out of
    them; one that still has three terms loses by a pin the class with the least in it (Σ `weak[n]`, then the
    youngest).

    Args:
        size: number of nodes, node 0 included.
        weak: [size] what a node counts: more for a matrix than for a vector.
    """
    a, b, sites = store.scale.arrays()
    sums = list(store.sums)
    while True:
        solution = Solution(_signed_classes(size, a, b), a, b, sites)
        more: list[tuple[Ints, Ints, int]] = []
        rest = []
        for columns, site in sums:
            for x, y, left in split_terms(solution.of(columns)):
                if x.size:
                    more.append((x, y, site))
                if left.size:
                    rest.append((left, site))
        sums = rest
        if not more:
            if not sums:
                return solution
            size_of_class = np.bincount(np.abs(solution.label), weights=weak, minlength=size).astype(np.int64)
            pins = _weakest([columns for columns, _ in sums], size_of_class)
            more = [(pins, np.zeros_like(pins), GAVE_WAY)]
        a = np.concatenate([a, *(x for x, _, _ in more)])
        b = np.concatenate([b, *(y for _, y, _ in more)])
        sites = np.concatenate([sites, *(np.full(x.size, site, np.int64) for x, _, site in more)])


def _weakest(sums: list[Ints], weak: Ints) -> Ints:
    pins = []
    for columns in sums:
        nodes = np.abs(columns)
        rank = np.where(nodes == 0, np.iinfo(np.int64).max, weak[nodes] * (1 << 40) - nodes)
        chosen = nodes[np.argmin(rank, axis=0), np.arange(nodes.shape[1])]
        pins.append(unique(chosen))
    return np.concatenate(pins)


def _signed_classes(size: int, a: Ints, b: Ints) -> Ints:
    """Node n is the pair of points 2n (its scale) and 2n + 1 (the inverse); node 0 is its own inverse."""
    up_a, up_b = _point(a), _point(b)
    zero = np.zeros(1, np.int64)
    root = components(2 * size, np.concatenate([up_a, up_a ^ 1, zero]), np.concatenate([up_b, up_b ^ 1, zero + 1]))
    plus, minus = root[0::2], root[1::2]
    low = np.minimum(plus, minus)
    # the mirror of a component has the same nodes, so the smaller root of the two is an even point
    sign = np.where(plus == minus, 0, np.where(plus < minus, 1, -1))
    return np.asarray(sign * (low >> 1), dtype=np.int64)


def _point(label: Ints) -> Ints:
    return 2 * np.abs(label) + (label < 0)
