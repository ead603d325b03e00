"""Meeting: what it says of channels that two tensors meet element by element."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mtcore.trace.planes import WILD, Plane, Shadow, broadcast, compact, first, repeats, spread, varying
from mtcore.trace.relations import RelationStore
from mtcore.trace.rules.labels import (
    agrees,
    all_wild,
    decides,
    finer_first,
    nameless,
    one_to_one,
    pick_channel,
    varies_less,
)

MOST_TERMS = 4


class Meeting:
    """The part of a rule's vocabulary that ties, blocks and freezes channels."""

    relations: RelationStore
    site: int

    def meet(
        self, x: Shadow, y: Shadow, x_shape: torch.Size, y_shape: torch.Size, *, adds: bool = False
    ) -> tuple[Plane, ...]:
        """Channels of two operands of an elementwise operation: aligned ones exist together.

        Where one operand tells more of them apart, a product vanishes with the finer ones (a head, whatever is
        multiplied to it), but a sum only with the coarser (the residual stream stays when an expert goes).

        Channels that meet a constant with an own number for each of them cannot be removed one by one;
        where they also vary along an axis over which the constant repeats (heads), they can be removed
        together along the constant's axes.
        """
        shape = broadcast(x_shape, y_shape)
        left, right = list(spread(x.dim, shape)), list(spread(y.dim, shape))
        matched: set[int] = set()
        out: list[Plane] = []
        for p in left:
            partners = [i for i, q in enumerate(right) if set(varying(p)) & set(varying(q))]
            if len(partners) > 1 and any(one_to_one(p, right[i]) for i in partners):
                partners = self._without_crossing(p, right, partners, matched)
            for i in partners:
                self._together(p, right[i])
                self._freeze_unmatched(p, right[i])
                matched.add(i)
                finer, coarser = finer_first(p, right[i])
                p = (
                    pick_channel(coarser, finer)
                    if adds and varies_less(coarser, finer)
                    else pick_channel(finer, coarser)
                )
            stays = not partners and self._against_constant(p, y, y_shape)
            if not (adds and stays and right):
                out.append(p)
        for i, q in enumerate(right):
            if i not in matched:
                stays = self._against_constant(q, x, x_shape)
                if not (adds and stays and left):  # a channel that cannot go tells nothing of a sum with others
                    out.append(q)
        named = [p for p in out if not nameless(p)]
        return tuple(named[:MOST_TERMS] or (out[:1] if x.dim and y.dim else ()))

    def _without_crossing(
        self, p: Plane, right: Sequence[Plane], partners: Sequence[int], matched: set[int]
    ) -> list[int]:
        """Leaves out what divides the places in another way than `p`, which has its counterpart.

        Two factors that were flattened into one axis (channels, and the streams that they are sent to) are such;
        the second one cannot be removed from a sum that the first one decides.
        """
        kept = []
        for i in partners:
            if varying(right[i]) == varying(p) and not (decides(p, right[i]) or decides(right[i], p)):
                self.relations.freeze(right[i], self.site)
                matched.add(i)
            else:
                kept.append(i)
        return kept

    def _together(self, p: Plane, q: Plane) -> None:
        """Aligned channels exist together.

        One that varies along fewer axes serves several of the other: a norm's weight serves the channels of every
        head and stays when a head goes; a gate serves all channels of its head and goes with it.
        """
        a, b = set(varying(p)), set(varying(q))
        if a == b or not (a < b or b < a):
            self.relations.tie(p, q, self.site)
            return
        many, few, common = (p, q, sorted(b)) if b < a else (q, p, sorted(a))
        if agrees(few, first(many, sorted((a | b) - set(common))), wild=False):
            return  # the line's own statistic
        if max(a | b) in common:  # a number for each channel within a line
            self.relations.share(p, q, self.site)
            self.relations.block(many, first(many, common).expand(many.shape), self.site)
        else:  # a number for each line
            self.relations.block(many, few, self.site)

    def statistic(self, plane: Plane, axes: Sequence[int]) -> None:
        """A result depends on how many channels lie along the axes; whole lines along them may go."""
        along = [axis for axis in axes if not repeats(plane, axis)]
        if not along:
            return
        if set(varying(plane)) - {axis % plane.dim() for axis in along}:
            self.relations.block(plane, first(plane, along).expand(plane.shape), self.site)
        else:
            self.relations.reduce(plane, self.site)

    def _freeze_unmatched(self, p: Plane, q: Plane) -> None:
        a, b = compact([p, q])
        for one, other in ((a, b), (b, a)):
            lonely = (one != 0) & (one != WILD) & (other == 0)
            if bool(lonely.any()):
                self.relations.freeze(torch.where(lonely, one, 0), self.site)

    def _against_constant(self, p: Plane, other: Shadow, shape: torch.Size) -> bool:
        """A plane without a partner; returns whether its channels cannot be removed for it."""
        if other.dim and all_wild(other.dim):
            return False
        pad = p.dim() - len(shape)
        own = {axis for axis in range(pad, p.dim()) if shape[axis - pad] > 1}
        mine = set(varying(p))
        own -= {axis + pad for q in other.dim for axis in varying(q)}
        clash = sorted(mine & own)
        if not clash:
            return False
        if mine - own:
            self.relations.block(p, first(p, clash).expand(p.shape), self.site)
            return False
        self.relations.freeze(p, self.site)
        return True
