"""What commands begin with: the registry, the recipe as the line asks for it, and the data options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mtcore.cli.settings import current_settings

if TYPE_CHECKING:
    from mtcore.flow import LayerwiseOptions
    from mtcore.flow.data_options import DataOptions
    from mtcore.plugins import Registry
    from mtcore.recipe.setting import QuantizeConfig

F = TypeVar("F", bound=Callable[..., Any])


def open_registry() -> Registry:
    """Everything that mtcore and, unless --no-plugins was said, the installed plugins provide."""
    from mtcore import plugins

    if current_settings().no_plugins:
        return plugins.Registry.load(discover=False)
    return plugins.default_registry()


def recipe_options(command: F) -> F:
    """The options that choose a recipe and change it."""
    for option in reversed(
        (
            click.option("--recipe", required=True, metavar="NAME|FILE", help="A recipe's name or a YAML file."),
            click.option(
                "--set",
                "overrides",
                multiple=True,
                metavar="KEY=VALUE",
                help="Change one field of the recipe; VALUE is YAML. May be repeated.",
            ),
            click.option(
                "--max-unquantized",
                type=click.FloatRange(0, 1),
                metavar="SHARE",
                help="Share of matrix weights, 0 to 1, that may stay unquantized although no rule says so.",
            ),
        )
    ):
        command = option(command)
    return command


def output_options(command: F) -> F:
    """The options that say where a checkpoint is written and how."""
    for option in reversed(
        (
            click.option(
                "-o",
                "--out",
                required=True,
                type=click.Path(path_type=Path),
                help="Directory of the new checkpoint.",
            ),
            click.option(
                "--dialect",
                help="How the checkpoint is written. [default: for each of the recipe's targets, or else "
                "compressed-tensors]",
            ),
            click.option("--force", is_flag=True, help="Replace the output directory if it exists."),
        )
    ):
        command = option(command)
    return command


def data_options(command: F) -> F:
    """The options that say how data are read, how much of them, and in which pieces; for `chosen_data`."""
    for option in reversed(
        (
            click.option("--samples", type=click.IntRange(min=1), help="Chunks to take. [default: 32]"),
            click.option("--length", type=click.IntRange(min=2), help="Tokens a chunk. [default: 512]"),
            click.option("--batch-size", type=click.IntRange(min=1), help="Chunks a batch. [default: 4]"),
            click.option(
                "--calib-format",
                "format",
                metavar="KIND",
                help="How data are read: text, jsonl, parquet, ids, tensors, folder, dataset. [default: by name]",
            ),
            click.option(
                "--text-field",
                "field",
                metavar="NAME",
                help="Field of the records. [default: text, messages, input_ids]",
            ),
            click.option(
                "--chat", is_flag=True, default=None, help="Records are conversations; use the chat template."
            ),
            click.option(
                "--seed",
                type=click.IntRange(0, 2**63 - 1),
                help="Draw the chunks from all of the data, instead of the first ones.",
            ),
        )
    ):
        command = option(command)
    return command


def layerwise_options(command: F) -> F:
    """The options of a run block by block; for `chosen_layerwise`."""
    for option in reversed(
        (
            click.option(
                "--layerwise",
                is_flag=True,
                help="Work block by block: weights stay in their files, and a killed run goes on where it was.",
            ),
            click.option(
                "--max-memory",
                metavar="SIZE",
                help="Host memory that may be used, such as 8GiB. Implies --layerwise.",
            ),
            click.option(
                "--propagate/--no-propagate",
                help="With --layerwise: calibrate a block on what the quantized blocks before it give.",
            ),
            click.option("--restart", is_flag=True, help="With --layerwise: throw away an unfinished run."),
            click.option(
                "--device", default="cpu", show_default=True, help="With --layerwise: where blocks are computed."
            ),
        )
    ):
        command = option(command)
    return command


def chosen_layerwise(
    layerwise: bool, max_memory: str | None, propagate: bool, restart: bool, device: str
) -> LayerwiseOptions | None:
    """The options of a run block by block, or None for one on the whole model.

    Raises:
        click.UsageError: options of a run block by block without one.
    """
    from mtcore.files import parse_bytes
    from mtcore.flow import LayerwiseOptions

    if not layerwise and max_memory is None:
        if propagate or restart or device != "cpu":
            raise click.UsageError("--propagate, --restart and --device need --layerwise")
        return None
    limit = None if max_memory is None else parse_bytes(max_memory)
    return LayerwiseOptions(max_memory=limit, propagate=propagate, restart=restart, device=device)


def chosen_data(options: Mapping[str, Any]) -> DataOptions:
    """The data options of a line; what it left out keeps its default."""
    from mtcore.flow.data_options import DataOptions

    return DataOptions(**{name: value for name, value in options.items() if value is not None})


def recipe_files(recipe: str, registry: Registry) -> tuple[Path, ...]:
    """The file that a line names as its recipe; none where it is a name."""
    return () if recipe in registry.recipes or not Path(recipe).is_file() else (Path(recipe),)


def chosen_recipe(
    recipe: str, overrides: Sequence[str], max_unquantized: float | None, registry: Registry
) -> QuantizeConfig:
    """The recipe of a line, resolved, with the line's changes."""
    from mtcore.recipe import load_config

    changes = list(overrides)
    if max_unquantized is not None:
        changes.append(f"max_unquantized={max_unquantized}")
    return load_config(recipe, formats=registry.formats, recipes=registry.recipes, overrides=changes)
