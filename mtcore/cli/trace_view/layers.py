"""Layers: groups and parameters sorted into the layers of a model, with identical layers as one."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from mtcore.cli.trace_view.groups import Group, Member, groups_of
from mtcore.plan.fold import fold_names, skeleton

if TYPE_CHECKING:
    from mtcore.trace import TraceReport

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]
OUTSIDE = "outside the layers"
_LAYER = re.compile(r"(?:.*?\.)??\d+(?=\.|$)")


@dataclass(frozen=True)
class Layer:
    """Identical layers: their names, and the class, the groups and the parameters of the first one.

    A layer is everything under the first number of a name; what has no number is the layer ''.
    """

    names: tuple[str, ...]
    kind: str
    groups: tuple[Group, ...]
    parameters: tuple[str, ...]

    @property
    def title(self) -> str:
        return fold_names(self.names) or OUTSIDE

    def inside(self, name: str) -> str:
        """A name without that of the layer."""
        return name.removeprefix(f"{self.names[0]}.") if self.names[0] else name

    def full(self, name: str) -> str:
        """A name in the first layer as one that stands for all of them."""
        return self.title + name.removeprefix(self.names[0]) if self.names[0] else name


@dataclass(frozen=True)
class Layers:
    """A trace for people: `layers` in the order of the calls, and the groups that reach `across` several."""

    layers: tuple[Layer, ...]
    across: tuple[Group, ...]


def layer_of(name: str) -> str:
    """The layer that a module or parameter is in.

    Example:
        >>> layer_of("model.layers.11.mlp.experts.3.w1.weight"), layer_of("lm_head.weight"), layer_of("0.weight")
        ('model.layers.11', '', '0')
    """
    found = _LAYER.match(name)
    return found[0] if found else ""


def sort_into_layers(report: TraceReport, shapes: Shapes, *, every_layer: bool = False) -> Layers:
    """Sorts a trace into layers; unless `every_layer`, those that agree in everything but their number are one.

    Args:
        shapes: of the parameters, by name.
    """
    homes: dict[str, list[Group]] = {}
    across: list[Group] = []
    for group in groups_of(report, shapes):
        prefixes = {layer_of(member.name) for member in group.members}
        (homes.setdefault(prefixes.pop(), []) if len(prefixes) == 1 else across).append(group)
    parameters: dict[str, list[str]] = {}
    for name in _in_order_of_calls(report, shapes):
        parameters.setdefault(layer_of(name), []).append(name)
    kinds = {called.name: called.kind for called in report.called}
    reaching = _reaching(across)
    single = [
        Layer((prefix,), kinds.get(prefix, ""), tuple(homes.get(prefix, ())), tuple(names))
        for prefix, names in parameters.items()
    ]

    def likeness(layer: Layer) -> Hashable:
        inside = layer.inside
        return (
            layer.names[0] if every_layer else skeleton(layer.names[0]),
            layer.kind,
            tuple((inside(name), shapes[name], reaching.get(name)) for name in layer.parameters),
            tuple(replace(group, members=_renamed(group.members, inside)) for group in layer.groups),
        )

    folded = [
        replace(same[0], names=tuple(layer.names[0] for layer in same)) for same in together(single, likeness)
    ]
    return Layers(tuple(sorted(folded, key=lambda layer: not layer.names[0])), tuple(across))


def fold_groups(groups: Iterable[Group]) -> list[tuple[Group, list[Group]]]:
    """Groups that differ only in the numbers of their names as one, with those that it stands for.

    Members of one group that differ only in these numbers become one as well.
    """

    def likeness(group: Group) -> Hashable:
        return replace(group, members=_renamed(group.members, skeleton), reason=skeleton(group.reason))

    return [(replace(same[0], members=_folded_members(same)), same) for same in together(groups, likeness)]


def together(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Items with one key together, in the order in which the keys appear first."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _renamed(members: Iterable[Member], rename: Callable[[str], str]) -> tuple[Member, ...]:
    return tuple(replace(member, name=rename(member.name)) for member in members)


def _folded_members(same: Sequence[Group]) -> tuple[Member, ...]:
    every = [member for group in same for member in group.members]
    return tuple(
        replace(alike[0], name=fold_names([member.name for member in alike]))
        for alike in together(every, lambda member: replace(member, name=skeleton(member.name)))
    )


def _reaching(across: Iterable[Group]) -> Mapping[str, tuple[Hashable, ...]]:
    """For every name, the likenesses of the groups across layers that it is in."""
    found: dict[str, list[Hashable]] = {}
    for group in across:
        (folded,) = fold_groups([group])
        for member in group.members:
            found.setdefault(member.name, []).append((member.axes, member.sign, member.indices, folded[0]))
    return {name: tuple(likenesses) for name, likenesses in found.items()}


def _in_order_of_calls(report: TraceReport, shapes: Shapes) -> list[str]:
    """Parameters in the order in which the modules that own them were called first; uncalled ones at the end."""
    order = {called.name: i for i, called in enumerate(report.called)}
    return sorted(shapes, key=lambda name: order.get(name.rpartition(".")[0], len(order)))
