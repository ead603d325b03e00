"""The built-in tracer, as a hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from mtcore.trace import TraceInputs, TraceReport


@hookimpl
def mtcore_trace_model(model: nn.Module, inputs: TraceInputs | None) -> TraceReport:
    from mtcore.trace import analyze

    return analyze(model, inputs)
