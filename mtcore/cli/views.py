"""Tables and lists of facts, drawn the same way by every command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table without frames; cells are plain text and are never cut off. The first column keeps its lines whole
    where that leaves at least half of the width to the others."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    widest = max((cell_len(line) for row in rows for line in row[0].splitlines()), default=0)
    for index, column in enumerate(columns):
        whole = index == 0 and 2 * widest <= console.width
        table.add_column(column, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def print_facts(console: Console, facts: Mapping[str, str]) -> None:
    """One fact a line: its name, and what it is."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        table.add_row(Text(name, style="dim"), Text(value))
    console.print(table)


def megabytes(size_bytes: int) -> str:
    """'12.3 MB', in units of 10**6 bytes."""
    return f"{size_bytes / 1e6:,.1f} MB"
