"""`mtopt requantize`: another recipe for the same model and data, without running the data."""

from __future__ import annotations

from pathlib import Path

import click

from mtcore.cli.command import Answer, Command
from mtcore.cli.commands.quantize import draw_summary
from mtcore.cli.reporter import make_reporter
from mtcore.cli.session import chosen_recipe, open_registry, output_options, recipe_files, recipe_options
from mtcore.cli.settings import current_settings


@click.command(
    cls=Command,
    short_help="Quantize MODEL with another recipe, running no data.",
    example="mtopt requantize ./llama-3 --statistics ./llama-3-stats --recipe int8 -o ./llama-3-int8",
)
@click.argument("model")
@recipe_options
@click.option(
    "--statistics",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory that `mtopt quantize --statistics` filled for this model.",
)
@output_options
def requantize(
    model: str,
    recipe: str,
    overrides: tuple[str, ...],
    max_unquantized: float | None,
    statistics: Path,
    out: Path,
    dialect: str | None,
    force: bool,
) -> Answer:
    """Quantize MODEL again from kept statistics; the result is that of `mtopt quantize` on the same data.

    The data does not run. A recipe that needs more than was kept is refused, and told what is missing.
    """
    from mtcore import flow

    registry = open_registry()
    summary = flow.requantize_checkpoint(
        model,
        chosen_recipe(recipe, overrides, max_unquantized, registry),
        out,
        statistics=statistics,
        dialect=dialect,
        registry=registry,
        reporter=make_reporter(),
        overwrite=force,
        inputs=recipe_files(recipe, registry),
    )
    current_settings().written = out
    return Answer(summary.to_json(), lambda console: draw_summary(console, model, summary))
