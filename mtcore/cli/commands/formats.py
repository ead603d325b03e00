"""`mtopt formats`: the number formats that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mtcore.cli.command import Answer, Command
from mtcore.cli.session import open_registry

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.formats import TensorFormat


@click.command(cls=Command, short_help="List the number formats.", example="mtopt formats --json")
def formats() -> Answer:
    """List the number formats: elements, scales and stored bits."""
    known = tuple(open_registry().formats.values())

    def draw(console: Console) -> None:
        from mtcore.cli.views import print_table

        rows = [
            (fmt.name, fmt.element.name, ", ".join(map(str, fmt.scales)), f"{fmt.bits_per_element:g}", fmt.summary)
            for fmt in known
        ]
        print_table(console, ("format", "element", "scales", "bits", "what it is"), rows)

    return Answer([_as_data(fmt) for fmt in known], draw)


def _as_data(fmt: TensorFormat) -> dict[str, Any]:
    return {
        "name": fmt.name,
        "aliases": list(fmt.aliases),
        "element": fmt.element.name,
        "scales": [{"element": scale.element.name, "block": str(scale.block)} for scale in fmt.scales],
        "symmetric": fmt.symmetric,
        "bits_per_element": fmt.bits_per_element,
        "summary": fmt.summary,
    }
