"""`mtopt new-plugin`: a working plugin to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtcore.cli.command import Answer, Command

if TYPE_CHECKING:
    from rich.console import Console

    from mtcore.plugins.scaffold import NewPlugin


@click.command(
    cls=Command,
    name="new-plugin",
    short_help="Write a working plugin to begin with.",
    example="mtopt new-plugin acme-quant --with format,algorithm",
)
@click.argument("name")
@click.option(
    "--with",
    "parts",
    metavar="PART,…",
    help="What it has: command, recipe, format, layer, trace-rule, kernel, algorithm, searcher, exporter, client, "
    "loader, phases. [default: all of them]",
)
@click.option("--directory", type=click.Path(path_type=Path), metavar="DIR", help="Where. [default: ./NAME]")
def new_plugin(name: str, parts: str | None, directory: Path | None) -> Answer:
    """Write a package that installs, is found by mtopt, and passes its conformance tests as it is.

    NAME is that of the distribution. Each part is a file with one working example, a hook that hands it to mtcore,
    and a test that holds it to mtcore's contract. Edit them, rename them, delete what you do not need.
    """
    from mtcore.plugins.scaffold import PARTS, new_plugin

    chosen = tuple(PARTS) if parts is None else tuple(part.strip() for part in parts.split(",") if part.strip())
    made = new_plugin(name, directory, chosen)
    data = {
        "name": made.name,
        "package": made.package,
        "parts": list(made.parts),
        "directory": str(made.directory),
        "files": list(made.files),
    }
    return Answer(data, lambda console: _draw(console, made))


def _draw(console: Console, made: NewPlugin) -> None:
    from rich.text import Text

    steps = (f"cd {made.directory}", "pip install -e '.[testing]'", "mtopt plugins doctor", "pytest")
    lines = [*(f"  {made.directory / file}" for file in made.files), "", "Next:", *(f"  {step}" for step in steps)]
    console.print(Text("\n".join(lines)), soft_wrap=True)
