"""RuleContext: the vocabulary of the rules. What an operation does to scales and channels, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mtcore.trace.arena import Arena, Axes
from mtcore.trace.planes import (
    NOTHING,
    WILD,
    Plane,
    Shadow,
    broadcast,
    compact,
    distinct,
    first,
    negate,
    repeats,
    spread,
    varying,
)
from mtcore.trace.relations import RelationStore

MOST_TERMS = 4


@dataclass
class Call:
    """One dispatched operation with the shadows of its tensor arguments, and the module that runs."""

    func: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shadows: Mapping[int, Shadow] = field(default_factory=dict)
    outs: Sequence[Tensor] = ()
    module: str = ""
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.func._schema.name
        if self.name.endswith("_") and not self.name.endswith("__"):
            self.name = self.name[:-1]

    @property
    def labelled(self) -> bool:
        return any(self.shadows.values())

    def arg(self, place: int, name: str, default: Any = None) -> Any:
        """A positional or keyword argument."""
        if place < len(self.args):
            return self.args[place]
        return self.kwargs.get(name, default)


class RuleContext:
    """Handed to a rule: reads shadows, emits demands with the operation's site, makes the result's shadow."""

    def __init__(
        self, arena: Arena, relations: RelationStore, site: int, offsets: dict[int, set[float]], call: Call | None
    ) -> None:
        self.arena, self.relations, self.site = arena, relations, site
        self._offsets = offsets
        self._call = call

    # -- reading ---------------------------------------------------------------------------------

    def raw(self, value: object) -> Shadow:
        """The shadow of an argument; a parameter stays a view. A number or None has nothing."""
        if not isinstance(value, Tensor) or self._call is None:
            return NOTHING
        return self._call.shadows.get(id(value), NOTHING)

    def get(self, value: object, layout: Sequence[Axes] | None = None) -> Shadow:
        """The shadow of an argument; a parameter gets the labels of its roles."""
        return self.resolved(self.raw(value), layout)

    def resolved(self, shadow: Shadow, layout: Sequence[Axes] | None = None, offset: float = 0.0) -> Shadow:
        """Labels for a parameter that is now used as what it is, or (offset) as `value + offset`."""
        if shadow.view is None:
            return shadow
        self._offsets.setdefault(shadow.view.param, set()).add(offset)
        planes = self.arena.planes(shadow.view, layout)
        return Shadow(planes, planes)

    # -- demands ---------------------------------------------------------------------------------

    def pin(self, shadow: Shadow) -> None:
        """Its elements keep their values."""
        self.relations.zero(shadow.scale, (), self.site)

    def freeze(self, shadow: Shadow) -> None:
        """Its channels cannot be removed."""
        for plane in shadow.dim:
            self.relations.freeze(plane, self.site)

    def opaque(self, shadow: Shadow) -> None:
        """Nothing is known of what is done with it: values and channels stay."""
        self.pin(shadow)
        self.freeze(shadow)

    def equal_along(self, shadow: Shadow, axes: Sequence[int]) -> tuple[Plane, ...]:
        """One scale along the axes; gives a label for each line (size 1 there)."""
        lines = tuple(first(p, axes, wild=shadow.wild) for p in shadow.scale)
        if any(not repeats(p, a) for p in shadow.scale for a in axes):
            full = [line.expand(p.shape) for line, p in zip(lines, shadow.scale, strict=True)]
            self.relations.zero(shadow.scale, full, self.site)
        return lines

    # -- results ---------------------------------------------------------------------------------

    def pointwise(self, shadow: Shadow, shape: Sequence[int] | None = None) -> Shadow:
        """A non-linear function of each element: values stay, channels pass."""
        self.pin(shadow)
        return Shadow((), shadow.dim if shape is None else spread(shadow.dim, shape))

    def multiply(self, x: Shadow, y: Shadow, x_shape: torch.Size, y_shape: torch.Size) -> Shadow:
        """x * y: scales add."""
        shape = broadcast(x_shape, y_shape)
        scale = spread((*x.scale, *y.scale), shape)
        if len(scale) > MOST_TERMS:
            self.relations.zero(scale[MOST_TERMS:], (), self.site)
            scale = scale[:MOST_TERMS]
        return Shadow(scale, self.meet(x, y, x_shape, y_shape), x.wild or y.wild)

    def divide(self, x: Shadow, y: Shadow, x_shape: torch.Size, y_shape: torch.Size) -> Shadow:
        """x / y: scales subtract."""
        inverse = Shadow(negate(y.scale, wild=y.wild), y.dim, y.wild)
        return self.multiply(x, inverse, x_shape, y_shape)

    def add(self, x: Shadow, y: Shadow, x_shape: torch.Size, y_shape: torch.Size) -> Shadow:
        """x + y, also maximum, where and the like: both have one scale."""
        shape = broadcast(x_shape, y_shape)
        left, right = spread(x.scale, shape), spread(y.scale, shape)
        self.relations.zero(left, right, self.site)
        dim = self.meet(x, y, x_shape, y_shape, adds=True)
        if not left or not right:  # the labelled side was pinned
            return Shadow((), dim)
        swap = len(left) > len(right) or (len(left) == len(right) and older(right[0], left[0]))
        few, many = (right, left) if swap else (left, right)
        few_wild = y.wild if swap else x.wild
        if not few_wild:
            return Shadow(few, dim)
        merged = _fill(few, many)
        return Shadow(merged, dim, wild=x.wild and y.wild)

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
            for i in partners:
                self._together(p, right[i])
                self._freeze_unmatched(p, right[i])
                matched.add(i)
                finer, coarser = _finer_first(p, right[i])
                p = (
                    pick_channel(coarser, finer)
                    if adds and _varies_less(coarser, finer)
                    else pick_channel(finer, coarser)
                )
            if not partners:
                self._against_constant(p, y, y_shape)
            out.append(p)
        for i, q in enumerate(right):
            if i not in matched:
                self._against_constant(q, x, x_shape)
                out.append(q)
        named = [p for p in out if not _nameless(p)]
        return tuple(named[:MOST_TERMS] or (out[:1] if x.dim and y.dim else ()))

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
        if _agrees(few, first(many, sorted((a | b) - set(common))), wild=False):
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

    def _against_constant(self, p: Plane, other: Shadow, shape: torch.Size) -> None:
        if other.dim and _all_wild(other.dim):
            return
        pad = p.dim() - len(shape)
        own = {axis for axis in range(pad, p.dim()) if shape[axis - pad] > 1}
        mine = set(varying(p))
        own -= {axis + pad for q in other.dim for axis in varying(q)}
        clash = sorted(mine & own)
        if not clash:
            return
        if mine - own:
            self.relations.block(p, first(p, clash).expand(p.shape), self.site)
        else:
            self.relations.freeze(p, self.site)

    def reduce(self, x: Shadow, axes: Sequence[int], *, keepdim: bool, statistic: bool) -> Shadow:
        """Sums (or means, maxima) along axes: one scale there; channels there vanish from the result.

        `statistic`: the result changes when channels are removed instead of zeroed.
        """
        lines = self.equal_along(x, axes)
        dim = []
        for plane in x.dim:
            alike = plane if keepdim or statistic else self.arena.of_first_matrix(plane)
            if all(repeats(alike, axis) for axis in axes):
                dim.append(first(plane, axes))
                continue
            if statistic:
                self.statistic(plane, axes)
            if set(varying(plane)) - set(axes):  # the result's element belongs to the line that it sums up
                dim.append(first(plane, axes))
        if not keepdim:
            lines = tuple(_drop(p, axes) for p in lines)
            dim = [_drop(p, axes) for p in dim]
        return Shadow(lines, tuple(dim), x.wild)

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
            elif _agrees(plane, line, wild=x.wild):
                if x.wild and _agrees(plane, first(plane, [a], wild=True), wild=True):
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
            if not other and not (its.dim and _all_wild(its.dim)):
                for p in mine:
                    self.relations.freeze(p, self.site)
        kept = self._heads(left, right, shape)
        x_free, y_free = ([p for p in free if not _nameless(p)] for free in (x_free, y_free))
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
            if not _agrees(plane, line, wild=True):
                self.relations.freeze(plane, self.site)
            summed.append(line)
        return summed, free


def _nameless(plane: Plane) -> bool:
    """Whether it tells no channels apart: one label everywhere, of a scalar or of nothing."""
    labels = distinct(plane)
    return labels.size <= 1 or bool((labels == labels.flat[0]).all())


def older(p: Plane, q: Plane) -> bool:
    """Whether the parameters that `p` names were used before those of `q`.

    Of labels that are known to be equal the older ones are kept, so that a residual stream is named by what began
    it, and not by each block anew.
    """
    return _first_label(p) < _first_label(q)


def _first_label(plane: Plane) -> int:
    labels = distinct(plane)
    return abs(int(labels.flat[0])) if labels.size else 0


def _finer_first(p: Plane, q: Plane) -> tuple[Plane, Plane]:
    """The plane that tells more channels apart; of equals the older one."""
    mine, its = set(varying(p)), set(varying(q))
    return (q, p) if mine < its or (mine == its and older(q, p)) else (p, q)


def _varies_less(p: Plane, q: Plane) -> bool:
    return set(varying(p)) < set(varying(q))


def pick_channel(p: Plane, q: Plane) -> Plane:
    """`p`, or `q` where `p` names no channel."""
    a, b = compact([p, q])
    if bool(((a != 0) & (a != WILD)).all()):
        return p
    return torch.where((a == 0) | (a == WILD), b, a).expand(p.shape)


def _agrees(plane: Plane, line: Plane, *, wild: bool) -> bool:
    a, b = compact([plane, line.expand(plane.shape)])
    equal = a == b
    return bool((equal | (a == WILD)).all() if wild else equal.all())


def _all_wild(planes: Sequence[Plane]) -> bool:
    return any(bool((distinct(p) == WILD).all()) for p in planes)


def _fill(few: Sequence[Plane], many: Sequence[Plane]) -> tuple[Plane, ...]:
    """`few`, with the labels of `many` where any plane of `few` is WILD."""
    small = compact([*few, *many])
    few_s, many_s = small[: len(few)], small[len(few) :]
    wild = torch.stack([p == WILD for p in few_s]).any(0)
    out = []
    for i, q in enumerate(many_s):
        p = few_s[i] if i < len(few_s) else torch.zeros_like(q)
        out.append(torch.where(wild, q, p).expand(many[i].shape))
    return tuple(out)


def _drop(plane: Plane, axes: Sequence[int]) -> Plane:
    for axis in sorted({a % plane.dim() for a in axes}, reverse=True):
        plane = plane.squeeze(axis)
    return plane
