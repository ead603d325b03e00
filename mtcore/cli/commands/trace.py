"""`mtopt trace`: what belongs together in a model, the proof of it, and why scales are pinned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtcore.cli.command import Answer, Command
from mtcore.cli.failures import FAILED
from mtcore.cli.reporter import make_reporter
from mtcore.cli.session import open_registry
from mtcore.cli.settings import current_settings

if TYPE_CHECKING:
    from rich.console import Console


def _writable_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuses, while the line is read, a path at which no file can be written."""
    if path is not None and not path.absolute().parent.is_dir():
        raise click.BadParameter(f"{path.absolute().parent} is no directory; make it first")
    if path is not None and (
        path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK)
    ):
        raise click.BadParameter(f"{path} cannot be written{': it is a directory' if path.is_dir() else ''}")
    return path


@click.command(
    cls=Command,
    short_help="Show what belongs together in MODEL.",
    example="mtopt trace ./llama-3 --verify --html llama-3.html",
)
@click.argument("model")
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Safetensors file with the tensors of one forward, by argument name. [default: small inputs are made]",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Prove groups on a float64 copy: random scales, channels in another order; drop what fails.",
)
@click.option("--removals", is_flag=True, help="With --verify: also remove channels and blocks, and compare.")
@click.option(
    "--explain",
    multiple=True,
    metavar="PARAM[:AXIS[:INDEX]]",
    help="Show the way to the operation that pins a scale, instead of the groups. May be repeated.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=_writable_file,
    help="Write a page to look around in, one file.",
)
@click.option("--all", "every_layer", is_flag=True, help="Do not fold identical layers.")
def trace(
    model: str,
    inputs: Path | None,
    verify: bool,
    removals: bool,
    explain: tuple[str, ...],
    html: Path | None,
    every_layer: bool,
) -> Answer:
    """Run MODEL once and show which layers read one value, which scales may be folded, and which channels and
    blocks exist together.

    The exit code is 1 where the forward fails, or where --verify drops a group.
    """
    from mtcore import flow
    from mtcore.cli.trace_view import page, table
    from mtcore.cli.trace_view.score import shown_parameters

    if removals and not verify:
        raise click.UsageError("--removals goes with --verify")
    traced = flow.trace_checkpoint(
        model,
        inputs=inputs,
        verify=verify,
        removals=removals,
        explain=explain,
        look_at=None if html is None else shown_parameters,
        registry=open_registry(),
        reporter=make_reporter(),
    )
    if html is not None:
        page.write_page(html, traced)
        current_settings().written = html

    def draw(console: Console) -> None:
        if explain:
            table.draw_answers(console, traced)
        elif html is None:
            table.draw_trace(console, traced, every_layer=every_layer)
        else:
            table.draw_summary(console, traced)
        if html is not None:
            console.print(f"page: {html}", soft_wrap=True, markup=False)

    return Answer(traced.to_dict(), draw, exit_code=FAILED if traced.wrong else 0)
