"""A command: `mtopt template-hello`."""

from __future__ import annotations

import click


@click.command(name="template-hello", short_help="Says hello.")
@click.option("--name", default="world", show_default=True, help="Who is greeted.")
def hello(name: str) -> None:
    """Say hello."""
    click.echo(f"hello, {name}")
