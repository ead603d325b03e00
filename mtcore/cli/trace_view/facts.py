"""What the panel of the page says of a group or a pin, as JSON inside HTML."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from mtcore.cli.trace_view.groups import BLOCKS, CHANNELS, DIVIDED, SHARED, TIMES, Member
from mtcore.cli.trace_view.score import Mark, Score
from mtcore.cli.trace_view.words import pin_in_words

if TYPE_CHECKING:
    from mtcore.flow import CheckpointTrace
    from mtcore.trace import AxisPin


_WHAT = {SHARED: "modules", BLOCKS: "blocks"}


def facts_json(score: Score, trace: CheckpointTrace) -> str:
    """What the panel shows, by key, as JSON that cannot end the script element that it stands in."""
    facts: dict[str, Any] = {mark.key: _group_facts(mark) for mark in score.marks}
    for pin in trace.pins:
        if pin.pinned:
            command = f"mtopt trace {shlex.quote(trace.source)} --explain {shlex.quote(pin.parameter)}"
            where = f":{pin.axes[-1]}:INDEX" if pin.axes else ""
            facts[pin_key(pin)] = {"text": pin_in_words(pin), "way": list(pin.way), "command": command + where}
    return json.dumps(facts, ensure_ascii=True).replace("<", "\\u003c")


def _group_facts(mark: Mark) -> dict[str, Any]:
    group = mark.group
    several = f"; {mark.count} such groups {'in all' if mark.wide else 'a layer'}" if mark.count > 1 else ""
    lines = [f"{'Reaches across layers' if mark.wide else f'In {mark.where}'}{several}."]
    if group.state:
        lines.append(f"State: {group.state}{' (' + group.reason + ')' if group.reason else ''}.")
    sides = {"": "Members", TIMES: "Multiplied by the scales", DIVIDED: "Divided by the scales"}
    members = [
        [heading, [[member.name, _place(member)] for member in group.members if member.sign == sign]]
        for sign, heading in sides.items()
        if any(member.sign == sign for member in group.members)
    ]
    return {"title": heading_of(mark), "lines": lines, "members": members}


def heading_of(mark: Mark) -> str:
    """'Fold: 64 channels', '64 channels', 'Heads: 4 blocks'."""
    group = mark.group
    count = f"{group.size:,} {_WHAT.get(group.lane, 'channels')}"
    return count if group.kind == CHANNELS else f"{group.kind.capitalize()}: {count}"


def _place(member: Member) -> str:
    if not member.axes:
        return ""
    every = f" of every matrix (axes {axes_text(member.axes)})" if member.axes[1:] else ""
    axes = f"axis\u00a0{member.axes[-1]}{every}"
    return f"{axes}, {member.share}: {shortened(member.indices)}" if member.share else axes


def shortened(text: str, limit: int = 120) -> str:
    """The text, cut off where it is longer than `limit`."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def axes_text(axes: tuple[int, ...]) -> str:
    """'[0,1]'."""
    return f"[{','.join(map(str, axes))}]"


def pin_key(pin: AxisPin) -> str:
    """The key of a pin among the facts; its name is not escaped."""
    return f"p {pin.parameter} {axes_text(pin.axes)}"
