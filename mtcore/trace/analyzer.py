"""The front door: `analyze` runs a model once and reports what belongs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import nn

from mtcore.trace.channels import channel_groups
from mtcore.trace.copies import copied_channels, copied_folds
from mtcore.trace.dependency import folds_of, solve
from mtcore.trace.engine import LabelPlanes
from mtcore.trace.experts import expert_groups
from mtcore.trace.explain import Explainer
from mtcore.trace.inputs import InputMaker, TraceInputs, example_inputs
from mtcore.trace.interpose import Call, around_module_calls
from mtcore.trace.operands import OperandWatch
from mtcore.trace.report import CalledModule, Count, Failure, TraceReport
from mtcore.trace.routers import routers_of
from mtcore.trace.rules import OpRules, builtin_rules
from mtcore.trace.shared_input import InputReads, SharedInputGroup
from mtcore.trace.state import no_collections, quiet_forward
from mtcore.trace.weightless import weights_put_aside


def analyze(
    model: nn.Module,
    inputs: object = None,
    *,
    makers: Sequence[InputMaker] = (),
    rules: OpRules | None = None,
    weightless: bool = False,
) -> TraceReport:
    """Runs one forward in eval mode without gradients and reports what it showed; the model stays as it was.

    A model whose parameters are on the meta device is traced without values, see `mtcore.trace.weightless`.

    Args:
        inputs: as for `recursive_trace`.
        makers: makers of example inputs that are asked before the built-in ones.
        rules: rules of operations; None takes the built-in ones.
        weightless: trace without values also where the parameters have some: a large model costs no arithmetic.

    Raises:
        TraceError: no inputs were given and none could be made. A forward that fails is reported instead.

    Example:
        >>> report = analyze(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
        >>> [call.kind for call in report.called]
        ['Sequential', 'Linear', 'ReLU']
    """
    return Analysis(model, inputs, makers=makers, rules=rules, weightless=weightless).report


class Analysis:
    """The facts of one forward, with the relations behind them.

    `report` is the serialisable part; `planes` and `solution` answer questions about it.

    Args:
        weightless: as for `analyze`.
        reuse: whether blocks that repeat others are recognised instead of analysed; the groups are the same.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: object = None,
        *,
        makers: Sequence[InputMaker] = (),
        rules: OpRules | None = None,
        reuse: bool = True,
        weightless: bool = False,
    ) -> None:
        self.model = model
        self.inputs = example_inputs(model, makers) if inputs is None else TraceInputs.of(inputs)
        self._names = {id(module): name for name, module in model.named_modules()}
        self._rules = rules or builtin_rules()
        with weights_put_aside(model, wanted=weightless):
            force = True
            self._forward(reuse, force=force)
            if self._failures and self.planes.has_forced:  # this model does not run with dealt-out routes
                force = False
                self._forward(reuse, force=force)
            if self.planes.repeats is not None and self.planes.repeats.misled:
                self._forward(reuse=False, force=force)
        self.solution = solve(self.planes, self._partly_called())
        self.report = self._report()

    def explain(self, parameter: str, axis: int, index: int) -> tuple[str, ...]:
        """Why this slice of a parameter cannot be rescaled: the way to the operation that pins it, a step a line.

        Empty when its scale is free. `index` is flat over the axes of the role that `axis` is the last of.

        Raises:
            TraceError: the forward did not use this axis of the parameter as one with scales.
        """
        return self.explainer.scale(parameter, axis, index).way

    @cached_property
    def explainer(self) -> Explainer:
        """Answers questions about scales; made at the first one."""
        return Explainer(self.planes, self.solution)

    def _forward(self, reuse: bool, *, force: bool) -> None:
        self._running: list[str] = []
        self._calls: dict[str, int] = {}
        self._failures: dict[str, str] = {}
        self.planes = LabelPlanes(self.model, self._rules, self._running_module, reuse=reuse, force=force)
        self._reads = InputReads(self.model, self.planes.values)
        self._operands = OperandWatch(self.model)
        with (
            no_collections(),
            quiet_forward(self.model),
            self.planes,
            self._operands,
            around_module_calls(self.model, self._around),
        ):
            try:
                out = self.model(*self.inputs.args, **self.inputs.kwargs)
                self.planes.pin_results(out)
                if self.planes.broken:
                    self.planes.give_up_everything()
            except Exception as error:  # noqa: BLE001  any forward may raise anything; the report carries it
                self._failures.setdefault("", f"{type(error).__name__}: {error}")
                self.planes.give_up_everything()

    def _running_module(self) -> str:
        return self._running[-1] if self._running else ""

    def _around(self, module: nn.Module, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        name = self._names[id(module)]
        self._calls[name] = self._calls.get(name, 0) + 1
        self._reads.note(module, args, kwargs)
        self._running.append(name)
        self._operands.enter(name)
        self.planes.enter(name)
        try:
            return call(*args, **kwargs)
        except Exception as error:
            self._failures.setdefault(name, f"{type(error).__name__}: {error}")
            raise
        finally:
            self._operands.leave()
            self.planes.leave(name)
            self._running.pop()

    def _partly_called(self) -> set[str]:
        """Parameters of called members of module lists of which other members, of the same type, were not called.

        They may be experts: an uncalled one may read the value that its siblings read.
        """
        names: set[str] = set()
        for where, parent in self.model.named_modules():
            if not isinstance(parent, nn.ModuleList):
                continue
            members = {f"{where}.{n}" if where else n: m for n, m in parent.named_children()}
            missed = {
                type(m)
                for n, m in members.items()
                if n not in self._calls and next(m.parameters(), None) is not None
            }
            for name, member in members.items():
                if name in self._calls and type(member) in missed:
                    names |= {f"{name}.{p}" for p, _ in member.named_parameters()}
        return names

    def _report(self) -> TraceReport:
        symbols, blocks = channel_groups(self.planes.arena, self.planes.relations)
        experts = expert_groups(self.model, self.planes.arena, self.planes.relations)
        modules = dict(self.model.named_modules())
        trouble, copies = self.planes.trouble, self.planes.copies
        return TraceReport(
            model=type(self.model).__name__,
            called=tuple(CalledModule(name, type(modules[name]).__name__, n) for name, n in self._calls.items()),
            uncalled=tuple(n for n, m in modules.items() if n not in self._calls and _owns_parameters(m)),
            failures=tuple(Failure(name, message) for name, message in self._failures.items()),
            shared_inputs=self._reads.groups(),
            folds=tuple(copied_folds(folds_of(self.planes, self.solution), copies)),
            symbols=tuple(copied_channels(symbols, copies)),
            blocks=tuple(copied_channels((*blocks, *experts), copies)),
            attentions=self._operands.attentions,
            stacked=self._operands.stacked,
            routers=routers_of(self.model, self.planes.arena, self.planes.relations, copies, self._calls),
            unknown_ops=tuple(Count(op, n) for op, n in sorted(trouble.unknown.items())),
            rule_errors=tuple(Count(op, n) for op, n in sorted(trouble.errors.items())),
        )


def _owns_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def shared_input_groups(
    model: nn.Module, inputs: object = None, *, makers: Sequence[InputMaker] = ()
) -> tuple[SharedInputGroup, ...]:
    """The groups of modules that read the very same value; see `SharedInputGroup` and `analyze`."""
    return analyze(model, inputs, makers=makers).shared_inputs
