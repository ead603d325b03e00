"""What the plugin gives to mtcore. Every `mtopt` command imports it, so heavy imports stand inside functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    import click
    from torch import nn

    from mtcore.backends import KernelSpec
    from mtcore.calibration import AlgorithmSpec
    from mtcore.export import ExporterSpec
    from mtcore.flow import DataOptions, LoadedModel
    from mtcore.formats import TensorFormat
    from mtcore.lint import ClientSpec, RuleSpec
    from mtcore.nn import QuantModuleSpec
    from mtcore.opt import SearcherSpec
    from mtcore.plugins import PhaseOutcome, RunFacts
    from mtcore.recipe import RecipeSpec
    from mtcore.trace import SymbolSpec, TraceInputs, TraceRuleSpec

MTCORE_HOOK_API = "0.1"


@hookimpl
def mtcore_add_commands(cli: click.Group) -> None:
    from mtopt_template.commands import hello

    cli.add_command(hello)


@hookimpl
def mtcore_recipes() -> Iterator[RecipeSpec]:
    from mtopt_template.recipes import HALF

    yield HALF


@hookimpl
def mtcore_formats() -> Iterator[TensorFormat]:
    from mtopt_template.formats import E2M2

    yield E2M2


@hookimpl
def mtcore_quant_modules() -> Iterator[QuantModuleSpec]:
    from mtopt_template.layers import SCALED_LINEAR

    yield SCALED_LINEAR


@hookimpl
def mtcore_symbols() -> Iterator[SymbolSpec]:
    from mtopt_template.layers import SYMBOLS

    yield SYMBOLS


@hookimpl
def mtcore_trace_rules() -> Iterator[TraceRuleSpec]:
    from mtopt_template.trace_rules import LEAKY

    yield LEAKY


@hookimpl
def mtcore_kernels() -> Iterator[KernelSpec]:
    from mtopt_template.kernels import ROW_AMAX

    yield ROW_AMAX


@hookimpl
def mtcore_algorithms() -> Iterator[AlgorithmSpec]:
    from mtopt_template.algorithms import SHRINK

    yield SHRINK


@hookimpl
def mtcore_searchers() -> Iterator[SearcherSpec]:
    from mtopt_template.searchers import LARGEST

    yield LARGEST


@hookimpl
def mtcore_exporters() -> Iterator[ExporterSpec]:
    from mtopt_template.exporters import PLAIN

    yield PLAIN


@hookimpl
def mtcore_clients() -> Iterator[ClientSpec]:
    from mtopt_template.clients import SERVER

    yield SERVER


@hookimpl
def mtcore_lint_rules() -> Iterator[RuleSpec]:
    from mtopt_template.clients import WIDTH

    yield WIDTH


@hookimpl
def mtcore_load_model(source: str) -> LoadedModel | None:
    from mtopt_template.loader import load

    return load(source)


@hookimpl
def mtcore_example_inputs(model: nn.Module) -> TraceInputs | None:
    from mtopt_template.loader import example_inputs

    return example_inputs(model)


@hookimpl
def mtcore_calibration_batches(
    source: str, loaded: LoadedModel, options: DataOptions
) -> list[dict[str, Any]] | None:
    from mtopt_template.loader import batches

    return batches(source, loaded, options)


@hookimpl
def mtcore_before_phase(run: RunFacts, phase: str) -> None:
    from mtopt_template.phases import begun

    begun(run, phase)


@hookimpl
def mtcore_after_phase(run: RunFacts, phase: str, outcome: PhaseOutcome) -> None:
    from mtopt_template.phases import ended

    ended(run, phase, outcome)
