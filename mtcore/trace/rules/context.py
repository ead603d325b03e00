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
    ParamView,
    Shadow,
    broadcast,
    distinct,
    first,
    negate,
    repeats,
    spread,
    varying,
)
from mtcore.trace.relations import RelationStore
from mtcore.trace.rules.contraction import Contraction
from mtcore.trace.rules.labels import dropped, filled, older
from mtcore.trace.rules.meeting import MOST_TERMS


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


class RuleContext(Contraction):
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
        self._note_piece(shadow.view)
        planes = self.arena.planes(shadow.view, layout)
        return Shadow(planes, planes)

    def _note_piece(self, view: ParamView) -> None:
        """Whole rows of a matrix that are used without the others."""
        shape = self.arena.shapes[view.param]
        if len(shape) != 2 or not 0 < view.coords[0].numel() < shape[0] * shape[1]:
            return
        rows = distinct(view.coords[0])
        first, last = int(rows.min()), int(rows.max())
        if view.coords[0].numel() == (last + 1 - first) * shape[1]:
            self.relations.pieces.setdefault(view.param, set()).add((first, last))

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
        merged = filled(few, many)
        return Shadow(merged, dim, wild=x.wild and y.wild)

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
            lines = tuple(dropped(p, axes) for p in lines)
            dim = [dropped(p, axes) for p in dim]
        return Shadow(lines, tuple(dim), x.wild)
