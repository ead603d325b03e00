"""The front door: `analyze` runs a model once and reports what belongs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mtcore.trace.inputs import InputMaker, TraceInputs, example_inputs
from mtcore.trace.interpose import Call, around_module_calls
from mtcore.trace.report import CalledModule, Failure, TraceReport
from mtcore.trace.shared_input import InputReads, SharedInputGroup
from mtcore.trace.state import quiet_forward
from mtcore.trace.values import ValueNumbers


def analyze(model: nn.Module, inputs: object = None, *, makers: Sequence[InputMaker] = ()) -> TraceReport:
    """Runs one forward in eval mode without gradients and reports what it showed; the model stays as it was.

    Args:
        inputs: as for `recursive_trace`.
        makers: makers of example inputs that are asked before the built-in ones.

    Raises:
        TraceError: no inputs were given and none could be made. A forward that fails is reported instead.

    Example:
        >>> report = analyze(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
        >>> [call.kind for call in report.called]
        ['Sequential', 'Linear', 'ReLU']
    """
    wanted = example_inputs(model, makers) if inputs is None else TraceInputs.of(inputs)
    names = {id(module): name for name, module in model.named_modules()}
    values = ValueNumbers()
    reads = InputReads(model, values)
    calls: dict[str, int] = {}
    failures: dict[str, str] = {}

    def around(module: nn.Module, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        name = names[id(module)]
        calls[name] = calls.get(name, 0) + 1
        reads.note(module, args, kwargs)
        try:
            return call(*args, **kwargs)
        except Exception as error:
            failures.setdefault(name, f"{type(error).__name__}: {error}")
            raise

    with quiet_forward(model), values, around_module_calls(model, around):
        try:
            model(*wanted.args, **wanted.kwargs)
        except Exception as error:  # noqa: BLE001  any forward may raise anything; the report carries it
            failures.setdefault("", f"{type(error).__name__}: {error}")

    modules = dict(model.named_modules())
    return TraceReport(
        model=type(model).__name__,
        called=tuple(CalledModule(name, type(modules[name]).__name__, n) for name, n in calls.items()),
        uncalled=tuple(name for name, m in modules.items() if name not in calls and _owns_parameters(m)),
        failures=tuple(Failure(name, message) for name, message in failures.items()),
        shared_inputs=reads.groups(),
    )


def _owns_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def shared_input_groups(
    model: nn.Module, inputs: object = None, *, makers: Sequence[InputMaker] = ()
) -> tuple[SharedInputGroup, ...]:
    """The groups of modules that read the very same value; see `SharedInputGroup` and `analyze`."""
    return analyze(model, inputs, makers=makers).shared_inputs
