"""`mtopt plan`: what would be done to which module, and why; nothing is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mtcore.cli.command import Answer, Command
from mtcore.cli.failures import FAILED
from mtcore.cli.reporter import make_reporter
from mtcore.cli.session import chosen_recipe, open_registry, recipe_options

if TYPE_CHECKING:
    from rich.console import Console


@click.command(
    cls=Command,
    short_help="Show what would be done to MODEL, and why.",
    example="mtopt plan ./llama-3 --recipe nvfp4 --all",
)
@click.argument("model")
@recipe_options
@click.option("--dialect", help="The checkpoint to be: what its layers may hold beside codes, and what it refuses.")
@click.option("--all", "every_module", is_flag=True, help="One line a module; do not fold identical layers.")
def plan(
    model: str,
    recipe: str,
    overrides: tuple[str, ...],
    max_unquantized: float | None,
    dialect: str | None,
    every_module: bool,
) -> Answer:
    """Show what quantizing MODEL would do to which module, and why. Writes nothing.

    The exit code is 1 where the plan has errors, that is, where `quantize` would refuse.
    """
    from mtcore import flow
    from mtcore.plan import plan_to_dict

    registry = open_registry()
    config = chosen_recipe(recipe, overrides, max_unquantized, registry)
    made = flow.plan_checkpoint(model, config, dialect=dialect, registry=registry, reporter=make_reporter())

    def draw(console: Console) -> None:
        from mtcore.cli.plan_view import draw_plan

        draw_plan(console, made, every_module=every_module)

    return Answer(plan_to_dict(made), draw, exit_code=FAILED if made.errors else 0)
