"""A trace as one page of HTML: no request to anywhere, every name escaped."""

from __future__ import annotations

import itertools
import os
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from mtcore.cli.trace_view.facts import axes_text, facts_json, heading_of, pin_key, shortened
from mtcore.cli.trace_view.groups import FOLD, LANES, SHARED, TIMES
from mtcore.cli.trace_view.score import Column, Mark, Part, Row, Score, make_score
from mtcore.cli.trace_view.words import members_in_words, problems, proof_in_words

if TYPE_CHECKING:
    from mtcore.flow import CheckpointTrace

COLOURS, WIDE_COLOUR = 10, 7
"""Classes c0 to c9 of page.css, and where those of groups across layers begin; each lane begins elsewhere."""

_HERE = files("mtcore.cli.trace_view")
_BAD = ("failed", "dropped", "rule error")


def write_page(path: Path, trace: CheckpointTrace) -> None:
    """Writes the page at `path`, whole or not at all; what stood there is replaced."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(page(trace), encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def page(trace: CheckpointTrace) -> str:
    """The page of a trace. `trace.pins` of `score.shown_parameters` become its explanations."""
    score = make_score(trace)
    template = Template((_HERE / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{trace.report.model}: what belongs together"),
        model=escape(trace.report.model),
        source=escape(trace.source),
        counts=_counts(trace),
        proof=_proof(trace),
        problems=_problems(trace),
        rows="\n".join(_row(row, number) for number, row in enumerate(score.rows)),
        across=_across(score),
        facts=facts_json(score, trace),
        css=(_HERE / "page.css").read_text(encoding="utf-8"),
        script=(_HERE / "page.js").read_text(encoding="utf-8"),
    )


def _counts(trace: CheckpointTrace) -> str:
    report = trace.report
    counts = {
        "modules called": len(report.called),
        "shared inputs": len(report.shared_inputs),
        "fold groups": len(report.folds),
        "channel groups": len(report.symbols),
        "block groups": len(report.blocks),
    }
    return "".join(f"<li><b>{number:,}</b> {what}</li>" for what, number in counts.items())


def _proof(trace: CheckpointTrace) -> str:
    if trace.proof is None:
        return ""
    bad = " bad" if trace.proof.dropped else ""
    return f'<p class="proof{bad}">{escape(proof_in_words(trace))}</p>'


def _problems(trace: CheckpointTrace) -> str:
    items = [
        f'<li class="{"bad" if what in _BAD else "note"}"><b>{escape(what)}</b>{escape(detail)}</li>'
        for what, detail in problems(trace)
    ]
    return f'<ul class="problems">{"".join(items)}</ul>' if items else ""


def _row(row: Row, number: int) -> str:
    """A layer: its title, the owners and names of its columns, and a line for every lane."""
    layer, columns = row.layer, row.columns
    times = f'<span class="times">{TIMES}{len(layer.names)}</span>' if len(layer.names) > 1 else ""
    widths = " ".join(map(_width, columns))
    owners = []
    for owner, same in itertools.groupby(columns, key=lambda column: _shown(column)[0]):
        owners.append(f'<div class="owner" style="grid-column: span {len(list(same))}">{_breakable(owner)}</div>')
    names = [
        _name(column, layer.title if layer.names[0] else "", f"{number}-{i}") for i, column in enumerate(columns)
    ]
    lanes = [f'<div class="lane">axis, length</div>{_cells(columns, number, _axis)}']
    for lane in LANES:
        if lane == FOLD or any(_drawn(column, lane) for column in columns):
            lanes.append(f'<div class="lane">{lane}</div>{_lane(columns, number, lane)}')
    grid = f"grid-template-columns: 6.5rem {widths}"
    return (
        f'<section class="layer"><h2>{_breakable(layer.title)}{times}'
        f'<span class="kind"> {escape(layer.kind)}</span></h2>'
        f'<div class="scroll"><div class="score" style="{grid}"><div class="lane"></div>{"".join(owners)}'
        f'<div class="lane"></div>{"".join(names)}{"".join(lanes)}</div></div></section>'
    )


def _width(column: Column) -> str:
    """The track of a column: wide enough for the parts of its fullest lane."""
    fullest = max((len(_buttons(part, lane)) for part in column.parts for lane in part.marks), default=1)
    places = len(column.parts) * max(1, fullest)
    return f"minmax({max(5.0, 3.9 * places):.1f}rem, {max(1.3, places)}fr)"


def _shown(column: Column) -> tuple[str, str]:
    """What stands above a column, and what it is called: a weight by its module, a bias by both names."""
    if column.name in ("weight", "bias") and column.owner:
        owner, _, name = column.owner.rpartition(".")
        return owner, name if column.name == "weight" else f"{name}.bias"
    return column.owner, column.name


def _name(column: Column, layer: str, key: str) -> str:
    full = ".".join(filter(None, (layer, column.owner, column.name)))
    return (
        f'<div class="column" data-column="{key}" data-name="{escape(full)}" title="{escape(full)}">'
        f"{_breakable(_shown(column)[1])}</div>"
    )


def _cells(columns: tuple[Column, ...], number: int, draw: Any) -> str:
    return "".join(
        f'<div class="parts" data-column="{number}-{i}">{"".join(draw(part) for part in column.parts)}</div>'
        for i, column in enumerate(columns)
    )


def _axis(part: Part) -> str:
    return (
        f'<div class="axis">{axes_text(part.axes)} {TIMES.join(map(str, part.lengths))}</div>'
        if part.axes
        else "<div></div>"
    )


def _lane(columns: tuple[Column, ...], number: int, lane: str) -> str:
    if lane != SHARED:
        return _cells(columns, number, lambda part: _cell(part, lane))
    return "".join(
        f'<div class="parts" data-column="{number}-{i}">'
        f"{_button(column.shared, 'shared') if column.shared else _NONE}</div>"
        for i, column in enumerate(columns)
    )


_NONE = '<div class="cell none">·</div>'


def _cell(part: Part, lane: str) -> str:
    buttons = _buttons(part, lane)
    return f'<div class="parts">{"".join(buttons)}</div>' if len(buttons) > 1 else buttons[0] if buttons else _NONE


def _buttons(part: Part, lane: str) -> list[str]:
    """One for every group that indices of the axis are in, and one for those that are pinned."""
    buttons = [
        _button(mark, f"{member.sign} {mark.group.size}" if member.sign else str(mark.group.size))
        for mark, member in part.marks.get(lane, ())
    ]
    if lane == FOLD and part.pin and part.pin.pinned:
        buttons.append(
            f'<button class="cell pin" type="button" data-pin="{escape(pin_key(part.pin))}">pinned</button>'
        )
    return buttons


def _button(mark: Mark, text: str) -> str:
    first = WIDE_COLOUR if mark.wide else 3 * LANES.index(mark.group.lane)
    kinds = ["cell", f"c{(first + mark.number) % COLOURS}", mark.group.state]
    kind = " ".join(filter(None, [*kinds, "wide" if mark.wide else ""]))
    title = escape(heading_of(mark))
    return (
        f'<button class="{escape(kind)}" type="button" data-group="{mark.key}" title="{title}">'
        f"{escape(text)}</button>"
    )


def _across(score: Score) -> str:
    if not score.across:
        return ""
    chips = "".join(
        _button(mark, f"{heading_of(mark)}: {shortened(members_in_words(mark.group))}") for mark in score.across
    )
    return f'<section class="layer"><h2>across layers</h2><div class="across">{chips}</div></section>'


def _drawn(column: Column, lane: str) -> bool:
    return column.shared is not None if lane == SHARED else any(part.marks.get(lane) for part in column.parts)


def _breakable(name: str) -> str:
    """A name, escaped, that may go on in the next line after a dot or an underscore."""
    return escape(name).replace(".", ".<wbr>").replace("_", "_<wbr>")
