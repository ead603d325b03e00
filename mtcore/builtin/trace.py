"""The built-in tracer with its rules of operations and its symbols of layers, as hooks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from mtcore.trace import OpRules, SymbolSpec, TraceInputs, TraceReport, TraceRuleSpec


@hookimpl
def mtcore_symbols() -> Iterable[SymbolSpec]:
    from mtcore.trace import builtin_symbols

    return builtin_symbols().specs()


@hookimpl
def mtcore_trace_rules() -> Iterable[TraceRuleSpec]:
    return _rules()


@hookimpl
def mtcore_trace_model(model: nn.Module, inputs: TraceInputs | None, rules: OpRules) -> TraceReport:
    from mtcore.trace import analyze

    return analyze(model, inputs, rules=rules)


@cache
def _rules() -> tuple[TraceRuleSpec, ...]:
    """The same records each time, so that registries of the same plugins are equal."""
    from mtcore.trace import builtin_rules

    return builtin_rules().specs()
