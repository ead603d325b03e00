"""A trace for people at a terminal: layer by layer, identical layers folded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.text import Text

from mtcore.cli.trace_view.groups import TIMES, Group
from mtcore.cli.trace_view.layers import fold_groups, sort_into_layers
from mtcore.cli.trace_view.words import members_in_words, pin_in_words, problems, proof_in_words, summary
from mtcore.cli.views import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.flow import CheckpointTrace

_STYLE = {"failed": "bold red", "dropped": "bold red", "rule error": "red", "unknown op": "yellow"}


def draw_trace(console: Console, trace: CheckpointTrace, *, every_layer: bool = False) -> None:
    """Prints all that has groups; unless `every_layer`, identical layers share one table."""
    layers = sort_into_layers(trace.report, trace.shapes, every_layer=every_layer)
    shown = [layer for layer in layers.layers if layer.groups]
    for layer in shown:
        count = f"  {TIMES}{len(layer.names)}" if len(layer.names) > 1 else ""
        console.print(Text.assemble((layer.title, "bold cyan"), (count, "bold"), (f"  {layer.kind}", "dim")))
        _draw_groups(console, layer.groups, layer.inside)
    if not shown and not layers.across:
        console.print(Text("nothing belongs together here", style="dim"))
    if layers.across:
        console.print(Text("across layers", style="bold cyan"))
        _draw_groups(console, layers.across)
    draw_summary(console, trace)


def draw_summary(console: Console, trace: CheckpointTrace) -> None:
    """Prints what went wrong, the proof, and the counts."""
    for what, detail in problems(trace):
        console.print(Text.assemble((what, _STYLE.get(what, "dim")), f" {detail}"), soft_wrap=True)
    if trace.proof is not None:
        console.print(Text(proof_in_words(trace)), soft_wrap=True)
    console.print(Text(summary(trace)), soft_wrap=True)


def draw_answers(console: Console, trace: CheckpointTrace) -> None:
    """Prints the answers to the questions that were asked, step by step."""
    for answer in trace.answers:
        console.print(Text(pin_in_words(answer), style="bold"), soft_wrap=True)
        for step in answer.way:
            console.print(Text(f"  {step}"), soft_wrap=True)


def group_rows(groups: Iterable[Group], inside: Callable[[str], str] = str) -> list[tuple[str, ...]]:
    """Rows of (kind, size, members, state with its reason); a count stands at kinds of which there are several."""
    rows: list[tuple[str, ...]] = []
    for group, same in fold_groups(groups):
        kind = group.kind if len(same) == 1 else f"{group.kind} ({TIMES}{len(same)})"
        state = f"{group.state}: {group.reason}" if group.reason else group.state
        rows.append((kind, f"{group.size:,}", members_in_words(group, inside), state))
    return rows


def _draw_groups(console: Console, groups: Iterable[Group], inside: Callable[[str], str] = str) -> None:
    print_table(console, ("what", "size", "members, with their axis", "state"), group_rows(groups, inside))
    console.print()
