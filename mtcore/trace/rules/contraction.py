"""Contraction: what a product of matrices says of scales and channels."""

from __future__ import annotations

from collections.abc import Sequence

from mtcore.trace.arena import Arena
from mtcore.trace.planes import Plane, Shadow, first, repeats, spread, varying
from mtcore.trace.rules.labels import agrees, all_wild, nameless
from mtcore.trace.rules.meeting import MOST_TERMS, Meeting


class Contraction(Meeting):
    """The part of a rule's vocabulary for products."""

    arena: Arena

    def equal_along(self, shadow: Shadow, axes: Sequence[int]) -> tuple[Plane, ...]:
        """One scale along the axes; gives a label for each line (size 1 there)."""
        lines = tuple(first(p, axes, wild=shadow.wild) for p in shadow.scale)
        if any(not repeats(p, a) for p in shadow.scale for a in axes):
            full = [line.expand(p.shape) for line, p in zip(lines, shadow.scale, strict=True)]
            self.relations.zero(shadow.scale, full, self.site)
        return lines

    def contract(self, x: Shadow, y: Shadow, x_shape: Sequence[int], y_shape: Sequence[int]) -> Shadow:
        """x [*batch, M, K] @ y [*batch, K, N]: along K the scales cancel; the rest goes to the result."""
        shape = [*x_shape[:-1], y_shape[-1]]
        x_sum, x_free = self._split(x, along=-1, across=-2)
        y_sum, y_free = self._split(y, along=-2, across=-1)
        turned = [p.transpose(-1, -2) for p in y_sum]
        line = [*shape[:-2], 1, x_shape[-1]]
        if x_shape[-1] == 1:
            scale = spread((*x.scale, *y.scale), shape)
        else:
            self.relations.zero(spread((*x_sum, *turned), line), (), self.site)
            scale = spread((*x_free, *y_free), shape)
        if len(scale) > MOST_TERMS:
            self.relations.zero(scale[MOST_TERMS:], (), self.site)
        dim = self._contract_channels(x, y, line, shape)
        return Shadow(scale[:MOST_TERMS], dim, x.wild or y.wild)

    def _split(self, x: Shadow, *, along: int, across: int) -> tuple[list[Plane], list[Plane]]:
        """Labels that vary along the summed axis, and those that do not, each with size 1 on the other axis."""
        summed, free = [], []
        for plane in x.scale:
            if plane.dim() < 2:
                raise ValueError("contraction of a vector")
            a, c = along % plane.dim(), across % plane.dim()
            line = first(plane, [c], wild=x.wild)
            if repeats(plane, a):
                free.append(first(plane, [a]))
            elif agrees(plane, line, wild=x.wild):
                if x.wild and agrees(plane, first(plane, [a], wild=True), wild=True):
                    free.append(first(plane, [a], wild=True))
                else:
                    summed.append(line)
            else:
                free += self.equal_along(Shadow((plane,), wild=x.wild), [a])
        return summed, free

    def _contract_channels(
        self, x: Shadow, y: Shadow, line: Sequence[int], shape: Sequence[int]
    ) -> tuple[Plane, ...]:
        x_sum, x_free = self._split_channels(x, -1, -2)
        y_sum, y_free = self._split_channels(y, -2, -1)
        left = list(spread(x_sum, line))
        right = list(spread([p.transpose(-1, -2) for p in y_sum], line))
        for p in left:
            for q in right:
                self.relations.tie(p, q, self.site)
                self._freeze_unmatched(p, q)
        for mine, other, its in ((left, right, y), (right, left, x)):
            if not other and not (its.dim and all_wild(its.dim)):
                for p in mine:
                    self.relations.freeze(p, self.site)
        kept = self._heads(left, right, shape)
        x_free, y_free = ([p for p in free if not nameless(p)] for free in (x_free, y_free))
        rows = [(p, len(shape) - 2, y) for p in x_free]
        for p, axis, its in rows + [(p, len(shape) - 1, x) for p in y_free]:
            whole = p.expand(shape) if all(n in (1, m) for n, m in zip(p.shape, shape, strict=True)) else p
            if self._counts_matrices(p) and not repeats(p, axis):
                if any(self._counts_matrices(q) for q in its.dim):
                    self.relations.block(p, first(p, [axis]).expand(p.shape), self.site)
                elif self._counts_matrices(self.arena.of_first_matrix(p)):
                    self.relations.freeze(p, self.site)  # the other factor has matrices that cannot go
            elif self._counts_matrices(p) and any(self._counts_matrices(q) for q in kept):
                continue
            kept.append(whole)
        heads = [p for p in kept if self._counts_matrices(p)]
        sums = [first(p, [p.dim() - 1]) for p in (*left, *right) if self._counts_matrices(p)]
        for p in [*heads, *sums][1:]:
            self.relations.block([*heads, *sums][0].expand(shape), p.expand(shape), self.site)
        if len(heads) > 1:  # one label for a head is enough: the one that tells its channels apart
            finest = max(heads, key=lambda p: len(varying(p)))
            kept = [p for p in kept if p is finest or not self._counts_matrices(p)]
        return spread(kept[:MOST_TERMS], shape)

    def _heads(self, left: Sequence[Plane], right: Sequence[Plane], shape: Sequence[int]) -> list[Plane]:
        """Both factors differ from matrix to matrix (heads): their summed channels are removed by whole matrices.

        Gives a label for each matrix, so that the result remembers which head it belongs to.
        """
        if not left or not right or not all(self._counts_matrices(p) for p in (*left, *right)):
            return []
        for p in (*left, *right):
            self.relations.block(p, first(p, [p.dim() - 1]).expand(p.shape), self.site)
        return [first(left[0], [left[0].dim() - 1]).expand(tuple(shape))]

    @staticmethod
    def _counts_matrices(plane: Plane) -> bool:
        """Whether labels differ along the axes that count matrices."""
        return any(not repeats(plane, axis) for axis in range(plane.dim() - 2))

    def _split_channels(self, x: Shadow, along: int, across: int) -> tuple[list[Plane], list[Plane]]:
        summed, free = [], []
        for plane in x.dim:
            a, c = along % plane.dim(), across % plane.dim()
            if repeats(plane, a):
                free.append(first(plane, [a]))
                continue
            line = first(plane, [c], wild=True)
            if not agrees(plane, line, wild=True):
                self.relations.freeze(plane, self.site)
            summed.append(line)
        return summed, free
