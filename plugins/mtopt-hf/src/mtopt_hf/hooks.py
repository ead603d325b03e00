"""What the plugin gives to mtcore: a loader, calibration batches, dialects and formats, clients and their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

    from mtcore.export import ExporterSpec
    from mtcore.flow import DataOptions, LoadedModel
    from mtcore.formats import TensorFormat
    from mtcore.lint import ClientSpec, RuleSpec
    from mtcore.recipe import RecipeSpec

MTCORE_HOOK_API = "0.1"


@hookimpl
def mtcore_load_model(source: str) -> LoadedModel | None:
    """Checkpoint directories, GGUF files, hub names, `package:NAME`."""
    from mtopt_hf.load import load_model

    return load_model(source)


@hookimpl
def mtcore_calibration_batches(
    source: str, loaded: LoadedModel, options: DataOptions
) -> list[dict[str, Any]] | None:
    """Batches of texts, records, conversations or token ids, for models that this plugin loaded."""
    from mtopt_hf.data import calibration_batches

    return calibration_batches(source, loaded, options) if loaded.loader == "hf" else None


@hookimpl
def mtcore_exporters() -> Iterator[ExporterSpec]:
    """The dialects of Hugging Face checkpoints."""
    from mtopt_hf.exporters import exporters

    yield from exporters()


@hookimpl
def mtcore_formats() -> Iterator[TensorFormat]:
    """What dialects have and mtcore's catalog does not: integers under one scale a row, FP4 in blocks of 32."""
    from mtopt_hf.formats import hub_formats

    yield from hub_formats()


@hookimpl
def mtcore_recipes() -> Iterator[RecipeSpec]:
    """What needs one of these formats."""
    from mtopt_hf.recipes import hub_recipes

    yield from hub_recipes()


@hookimpl
def mtcore_clients() -> Iterator[ClientSpec]:
    """vLLM, TensorRT-LLM, transformers and SGLang."""
    from mtopt_hf.lint import clients

    yield from clients()


@hookimpl
def mtcore_lint_rules() -> Iterator[RuleSpec]:
    """What these clients want of a checkpoint."""
    from mtopt_hf.lint import dialect_rules

    yield from dialect_rules()


@hookimpl
def mtcore_add_commands(cli: click.Group) -> None:
    """`mtopt lint` and `mtopt convert`."""
    from mtopt_hf.convert.command import convert_command
    from mtopt_hf.lint.command import lint_command

    cli.add_command(lint_command)
    cli.add_command(convert_command)
