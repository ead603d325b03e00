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

    from mtcore.recipe import QuantizeConfig


@click.command(
    cls=Command,
    short_help="Show what would be done to MODEL, and why.",
    example="mtopt plan ./llama-3 --recipe nvfp4 --all",
)
@click.argument("model")
@recipe_options
@click.option("--dialect", help="The checkpoint to be: what its layers may hold beside codes, and what it refuses.")
@click.option(
    "--to",
    "targets",
    metavar="NAME[,NAME…]",
    default="",
    help="Say whether these dialects or clients (vllm, trtllm, …) can be reached, and what the run will need. "
    "[default: the targets of the recipe]",
)
@click.option("--all", "every_module", is_flag=True, help="One line a module; do not fold identical layers.")
def plan(
    model: str,
    recipe: str,
    overrides: tuple[str, ...],
    max_unquantized: float | None,
    dialect: str | None,
    targets: str,
    every_module: bool,
) -> Answer:
    """Show what quantizing MODEL would do to which module, and why. Writes nothing.

    With --to, or targets in the recipe, the checkpoint of each target is written without values, in no place, and
    linted. The exit code is 1 where the plan has errors, that is, where `quantize` would refuse, or where a target
    cannot be reached.
    """
    from mtcore import flow
    from mtcore.plan import plan_to_dict

    registry = open_registry()
    config = chosen_recipe(recipe, overrides, max_unquantized, registry)
    names = [name.strip() for name in targets.split(",") if name.strip()]
    if names or (config.targets and dialect is None):
        return _with_targets(model, config, names, dialect, every_module=every_module)
    made = flow.plan_checkpoint(model, config, dialect=dialect, registry=registry, reporter=make_reporter())

    def draw(console: Console) -> None:
        from mtcore.cli.plan_view import draw_plan

        draw_plan(console, made, every_module=every_module)

    return Answer(plan_to_dict(made), draw, exit_code=FAILED if made.errors else 0)


def _with_targets(
    model: str, config: QuantizeConfig, names: list[str], dialect: str | None, *, every_module: bool
) -> Answer:
    from mtcore import flow
    from mtcore.plan import plan_to_dict

    made, rehearsals, needs = flow.plan_for_targets(
        model, config, names, dialect=dialect, registry=open_registry(), reporter=make_reporter()
    )

    def draw(console: Console) -> None:
        from mtcore.cli.plan_view import draw_plan
        from mtcore.cli.target_view import draw_estimate, draw_rehearsals

        draw_plan(console, made, every_module=every_module)
        draw_rehearsals(console, rehearsals)
        draw_estimate(console, needs)

    data = {
        **plan_to_dict(made),
        "targets": [rehearsal.to_json() for rehearsal in rehearsals],
        "estimate": needs.to_json(),
    }
    failed = bool(made.errors) or any(rehearsal.problems for rehearsal in rehearsals)
    return Answer(data, draw, exit_code=FAILED if failed else 0)
