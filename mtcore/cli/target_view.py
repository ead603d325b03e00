"""Targets of a plan for people: whether each can be reached, at what size, and what the run will need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from mtcore.cli.views import megabytes

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.flow import Estimate, Rehearsal

_SHOWN = 5


def draw_rehearsals(console: Console, rehearsals: Sequence[Rehearsal]) -> None:
    """Prints one block a target: dialect and size, or why it cannot be reached; then notes."""
    for rehearsal in rehearsals:
        target = rehearsal.target
        head = target.name if target.name == target.dialect else f"{target.name} ({target.dialect})"
        console.print()
        if rehearsal.problems:
            console.print(Text(f"{head}: cannot be reached", style="bold red"))
            for problem in rehearsal.problems[:_SHOWN]:
                console.print(Text(f"  {problem}"), soft_wrap=True)
            if len(rehearsal.problems) > _SHOWN:
                console.print(Text(f"  and {len(rehearsal.problems) - _SHOWN} more", style="dim"))
            continue
        size = f"{megabytes(rehearsal.size_bytes)} in {len(rehearsal.files)} files"
        console.print(Text(f"{head}: {size}", style="bold"))
        for reading in () if rehearsal.report is None else rehearsal.report.readings.values():
            console.print(Text(f"  runs as {reading.format}: {reading.how}"), soft_wrap=True)
        for note in (*target.notes, *_warnings(rehearsal)):
            console.print(Text(f"  note: {note}"), soft_wrap=True)


def draw_estimate(console: Console, needs: Estimate) -> None:
    """Prints memory and time, and what is not in the time."""
    console.print()
    memory, source = megabytes(needs.memory_bytes), megabytes(needs.source_bytes)
    parts = (
        f"{needs.calibrate_seconds:,.0f} s for {needs.tokens:,} tokens, {needs.quantize_seconds:,.0f} s to round"
    )
    lines = (
        f"A run on this CPU needs about {memory} of memory (the model has {source}; --max-memory bounds it)",
        f"and {needs.seconds:,.0f} s ({parts}).",
    )
    console.print(Text(" ".join(lines)), soft_wrap=True)
    if needs.more:
        console.print(Text(f"The time of {', '.join(needs.more)}, which search, comes on top."), soft_wrap=True)


def _warnings(rehearsal: Rehearsal) -> list[str]:
    findings = () if rehearsal.report is None else rehearsal.report.findings
    return [f"{one.where}: {one.why}" for one in findings if one.severity == "warning"][:_SHOWN]
