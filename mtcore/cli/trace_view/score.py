"""The score: a trace as rows of layers and columns of parameters, with a cell a group for every axis."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mtcore.cli.trace_view.groups import LANES, SHARED, Group, Member
from mtcore.cli.trace_view.layers import Layer, Layers, fold_groups, sort_into_layers, together
from mtcore.plan.fold import fold_names, skeleton

if TYPE_CHECKING:
    from mtcore.flow import CheckpointTrace
    from mtcore.trace import AxisPin, TraceReport

Axes = tuple[int, ...]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Mark:
    """A group as it is drawn: `number` is its colour, counted within its lane; `wide` groups reach across layers.

    `count`: how many such groups one layer holds.
    """

    key: str
    group: Group
    where: str
    number: int
    count: int
    wide: bool = False


@dataclass(frozen=True)
class Part:
    """One axis of a column's parameters: the groups in each lane that its indices are in, and its pins."""

    axes: Axes
    lengths: tuple[int, ...]
    marks: Mapping[str, tuple[tuple[Mark, Member], ...]]
    pin: AxisPin | None


@dataclass(frozen=True)
class Column:
    """Parameters that differ only in numbers, such as those of all experts: their name inside the layer."""

    name: str
    owner: str
    parts: tuple[Part, ...]
    shared: Mark | None


@dataclass(frozen=True)
class Row:
    """A layer, or identical layers."""

    layer: Layer
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Score:
    """`marks`: every group that is drawn, by its key."""

    rows: tuple[Row, ...]
    across: tuple[Mark, ...]
    marks: tuple[Mark, ...]


def shown_parameters(report: TraceReport, shapes: Shapes) -> list[str]:
    """The parameters that a score shows: those of the first of identical layers, the first of identical columns."""
    layers = sort_into_layers(report, shapes)
    marks = _Marks(layers)
    return [same[0] for layer in layers.layers for same in _columns(layer, shapes, marks)]


def make_score(trace: CheckpointTrace) -> Score:
    """Draws a trace up as a score."""
    layers = sort_into_layers(trace.report, trace.shapes)
    marks = _Marks(layers)
    pins = {(pin.parameter, pin.axes): pin for pin in trace.pins}
    rows = []
    for layer in layers.layers:
        same = _columns(layer, trace.shapes, marks)
        rows.append(Row(layer, tuple(_column(layer, names, trace.shapes, marks, pins) for names in same)))
    return Score(tuple(rows), tuple(mark for mark in marks.every if mark.wide), tuple(marks.every))


class _Marks:
    """The marks of all groups, and for every parameter or module those that it is in."""

    def __init__(self, layers: Layers) -> None:
        self.every: list[Mark] = []
        self._of: dict[str, list[tuple[Mark, Member]]] = {}
        self._add(layers.across, "across layers", str, wide=True)
        for layer in layers.layers:
            self._add(layer.groups, layer.title, layer.full)

    def of(self, name: str) -> Sequence[tuple[Mark, Member]]:
        return self._of.get(name, ())

    def _add(self, groups: Iterable[Group], where: str, full: Callable[[str], str], *, wide: bool = False) -> None:
        numbers = dict.fromkeys(LANES, 0)
        for folded, same in fold_groups(groups):
            named = replace(folded, members=tuple(replace(m, name=full(m.name)) for m in folded.members))
            mark = Mark(f"g{len(self.every)}", named, where, numbers[folded.lane], len(same), wide)
            numbers[folded.lane] += 1
            self.every.append(mark)
            for group in same:
                for member in group.members:
                    self._of.setdefault(member.name, []).append((mark, member))


def _columns(layer: Layer, shapes: Shapes, marks: _Marks) -> list[list[str]]:
    """The parameters of a layer, those together that differ only in numbers."""

    def likeness(name: str) -> Hashable:
        drawn = tuple((mark.key, member.axes, member.sign, member.indices) for mark, member in marks.of(name))
        return skeleton(layer.inside(name)), shapes[name], drawn

    return together(layer.parameters, likeness)


def _column(
    layer: Layer, names: Sequence[str], shapes: Shapes, marks: _Marks, pins: Mapping[tuple[str, Axes], AxisPin]
) -> Column:
    first, (owner, _, name) = names[0], fold_names([layer.inside(name) for name in names]).rpartition(".")
    module = first.rpartition(".")[0]
    shared = next((mark for mark, _ in marks.of(module) if mark.group.lane == SHARED), None)
    inside = [(mark, member) for mark, member in marks.of(first) if member.axes]
    axes = {member.axes for _, member in inside} | {of for parameter, of in pins if parameter == first}
    parts = [
        Part(
            role,
            tuple(shapes[first][axis] for axis in role),
            {
                lane: tuple((mark, m) for mark, m in inside if m.axes == role and mark.group.lane == lane)
                for lane in LANES
            },
            pins.get((first, role)),
        )
        for role in sorted(axes, key=lambda role: role[-1:])
    ]
    return Column(name, owner, tuple(parts) or (Part((), (), {}, None),), shared)
