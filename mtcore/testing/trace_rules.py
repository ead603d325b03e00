"""TraceRuleContract: what the rule of an operation promises, held against numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch import nn

from mtcore.trace import (
    Invariance,
    OpRules,
    TraceInputs,
    TraceReport,
    TraceRuleSpec,
    analyze,
    builtin_rules,
    verify,
)
from mtcore.trace.planes import Shadow
from mtcore.trace.rules import Call, RuleContext
from mtcore.trace.structure import tensors_in


class TraceRuleContract:
    """Override the fixtures `rule`, `model`, `inputs` and `folded`.

    `model` is small, has random parameters and uses the operation; `inputs` are those of one forward, as `analyze`
    takes them. `folded` names parameters that one fold group must connect through the operation: a set of them; the
    empty set where nothing may be scaled through it.
    """

    @pytest.fixture
    def rule(self) -> TraceRuleSpec:
        raise NotImplementedError("override the fixture `rule`: the TraceRuleSpec that is tested")

    @pytest.fixture
    def model(self) -> nn.Module:
        raise NotImplementedError("override the fixture `model`: a small model that uses the operation")

    @pytest.fixture
    def inputs(self) -> object:
        raise NotImplementedError("override the fixture `inputs`: the arguments of one forward of `model`")

    @pytest.fixture
    def folded(self) -> set[str]:
        raise NotImplementedError("override the fixture `folded`: parameters that scale against each other")

    @pytest.fixture
    def report(self, rule: TraceRuleSpec, model: nn.Module, inputs: object) -> TraceReport:
        return _report(rule, model, inputs)

    def test_the_forward_reaches_the_rule_and_it_raises_nothing(
        self, report: TraceReport, model: nn.Module, inputs: object, rule: TraceRuleSpec
    ) -> None:
        assert not report.failures, f"the model does not run: {report.failures[0].message}"
        assert not report.rule_errors, f"the rule raised: {report.rule_errors[0].what}"
        assert not report.unknown_ops, f"other operations have no rule: {report.unknown_ops}"
        reached: list[str] = []

        def watched(context: RuleContext, call: Call) -> Shadow | Iterable[Shadow]:
            reached.append(call.name)
            return rule.run(context, call)

        _report(replace(rule, run=watched), model, inputs)
        assert reached, f"the model never calls {rule.name}; let `model` use the operation"

    def test_tracing_does_not_change_the_forward(
        self, rule: TraceRuleSpec, model: nn.Module, inputs: object
    ) -> None:
        given = TraceInputs.of(inputs)
        with torch.no_grad():
            before = tensors_in(model.eval()(*given.args, **given.kwargs))
            _report(rule, model, inputs)
            after = tensors_in(model(*given.args, **given.kwargs))
        assert all(map(torch.equal, before, after)), "the outputs of the model changed"

    def test_every_fold_group_keeps_the_outputs(
        self, report: TraceReport, model: nn.Module, inputs: object
    ) -> None:
        invariance = Invariance(model, TraceInputs.of(inputs))
        for group in report.folds:
            check = invariance.check(group)
            assert check.exact, (
                f"{group.name}: scaling changes the outputs by {check.error:.2g} where its upper half alone "
                f"changes them by {check.effect:.2g}; the rule allows too much"
            )

    def test_what_scales_through_the_operation_is_found(self, report: TraceReport, folded: set[str]) -> None:
        groups = [set(group.parameters) for group in report.folds]
        if folded:
            assert any(folded <= group for group in groups), (
                f"no fold group connects {sorted(folded)}; found: {[sorted(g) for g in groups]}"
            )
        else:
            assert not report.folds, f"nothing may scale through it, but {report.folds[0].name} does"

    def test_a_wrong_channel_map_is_caught(self, report: TraceReport, model: nn.Module, inputs: object) -> None:
        """The control: the numbers of this model can tell a right group from a wrong one."""
        for group in (g for g in report.folds if g.size > 1 and g.down):
            side = group.down[0]
            moved = replace(side, channels=tuple((c + 1) % group.size for c in side.channels))
            planted = replace(group, down=(moved, *group.down[1:]))
            proof = verify(model, replace(report, folds=(planted,), symbols=(), blocks=()), inputs)
            assert not proof.report.folds, f"{group.name} with moved channels passed: the model tells nothing"

    def test_channels_that_are_searchable_can_be_removed(
        self, report: TraceReport, model: nn.Module, inputs: object
    ) -> None:
        proof = verify(model, replace(report, folds=()), inputs, removals=True)
        wrong = [check for check in proof.removals if check.outcome in ("mismatch", "ragged")]
        assert not wrong, f"{wrong[0].group}: removed and masked models differ by {wrong[0].error:.2g}"


def _report(rule: TraceRuleSpec, model: nn.Module, inputs: object) -> TraceReport:
    """What is found with this one rule beside the built-in ones."""
    return analyze(model, inputs, rules=rules_with([rule]))


def rules_with(specs: Iterable[TraceRuleSpec]) -> OpRules:
    """The built-in rules and these."""
    return OpRules.of([*builtin_rules().specs(), *specs])
