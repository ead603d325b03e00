"""From recipe, model and trace to a plan. Touches nothing; works on meta tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import nn

from mtcore.nn import QuantModuleSpec, match_spec, type_key
from mtcore.nn.spec import WeightSlot
from mtcore.plan.coverage import coverage_findings, measure_coverage
from mtcore.plan.groups import scale_groups
from mtcore.plan.plan import Finding, ModulePlan, Plan, SlotPlan
from mtcore.plan.rules import RuleBook
from mtcore.plan.sharing import shared_parameters
from mtcore.recipe.setting import QuantizeConfig
from mtcore.trace import TraceReport


def make_plan(
    model: nn.Module,
    config: QuantizeConfig,
    specs: Mapping[str, QuantModuleSpec],
    trace: TraceReport | None = None,
    untraced: str = "no trace was made",
) -> Plan:
    """Decide about every module that holds parameters of its own.

    Args:
        model: read only; parameters may be on the meta device.
        config: the request.
        specs: quantized layers by name.
        trace: of this model; where None, no scales are shared, which is a finding.
        untraced: why there is no trace.

    Returns:
        The plan. Problems do not raise: they are its findings of level "error".
    """
    book = RuleBook(config.rules)
    tied = shared_parameters(model)
    uncalled = frozenset(trace.uncalled) if trace is not None else frozenset()
    modules: list[ModulePlan] = []
    findings: list[Finding] = []
    for name, module in model.named_modules():
        if not module._parameters or all(p is None for p in module._parameters.values()):
            continue
        planned = _plan_module(name, module, book, specs)
        if planned.quantized and name in tied:
            findings.append(Finding("warning", name, f"stays as it is: {tied[name]}"))
            planned = replace(planned, slots=(), reason=tied[name], by_rule=True)
        if planned.quantized and name in uncalled:
            findings.append(Finding("warning", name, "is quantized but was not called by the example inputs"))
        modules.append(planned)
        findings.extend(_shape_findings(planned, specs))
    grouped, groups = scale_groups(modules, trace.shared_inputs if trace is not None else ())
    coverage = measure_coverage(model, grouped)
    if trace is None:
        findings.append(Finding("warning", "trace", f"no scales are shared: {untraced}"))
    findings.extend(_rule_findings(book))
    findings.extend(coverage_findings(model, grouped, coverage, config.max_unquantized))
    return Plan(config.name, grouped, groups, config.algorithm, tuple(findings), coverage)


def _plan_module(name: str, module: nn.Module, book: RuleBook, specs: Mapping[str, QuantModuleSpec]) -> ModulePlan:
    match = match_spec(module, specs.values())
    key = match.spec.name if match.spec is not None else type_key(module)
    parameters = {p: tuple(value.shape) for p, value in module._parameters.items() if value is not None}
    slots: list[SlotPlan] = []
    reason, by_rule = match.reason, False
    if match.spec is not None:
        slots, reason, by_rule = _plan_slots(name, match.spec, book)
    else:
        decisions = [book.decide(name, parameter, is_weight=True, module_type=key) for parameter in parameters]
        off = [d.rule for d in decisions if d.rule is not None and not d.rule.enable]
        if off and len(off) == len(decisions):
            reason, by_rule = f"left as it is by {off[-1].origin}", True
    return ModulePlan(
        name,
        type(module).__name__,
        match.spec.name if match.spec is not None else None,
        tuple(parameters.items()),
        tuple(slots),
        reason,
        by_rule,
    )


def _plan_slots(name: str, spec: QuantModuleSpec, book: RuleBook) -> tuple[list[SlotPlan], str, bool]:
    planned, off = [], None
    weights = [weight.parameter for weight in spec.weights]
    for slot in (*weights, *spec.activations):
        decision = book.decide(name, slot, is_weight=slot in weights, module_type=spec.name)
        if decision.setting is not None and decision.rule is not None:
            setting = decision.setting
            planned.append(SlotPlan(slot, setting.format, setting.mode, decision.rule.origin))
        elif decision.rule is not None:
            off = decision.rule
    if planned:
        origins = dict.fromkeys(slot.rule for slot in planned)
        return planned, ", ".join(origins), True
    if off is not None:
        return [], f"left as it is by {off.origin}", True
    return [], "no rule matches it", False


def _shape_findings(planned: ModulePlan, specs: Mapping[str, QuantModuleSpec]) -> Iterable[Finding]:
    """Blocks that do not divide the weight: no client can read the result."""
    if planned.spec is None:
        return
    shapes = dict(planned.shapes)
    for weight in specs[planned.spec].weights:
        slot = planned.slot(weight.parameter)
        if slot is None or weight.parameter not in shapes:
            continue
        cols = _matrix_cols(shapes[weight.parameter], weight)
        wide = slot.format.block.cols
        if wide > 1 and cols % wide:
            yield Finding(
                "error",
                planned.name,
                f"{cols} input features are not a multiple of block {wide} "
                f"(format {slot.format.name}, {slot.rule}); exclude it with a rule that skips it",
            )


def _matrix_cols(shape: tuple[int, ...], weight: WeightSlot) -> int:
    cols = 1
    for axis, size in enumerate(shape):
        cols *= 1 if axis == weight.channel_axis else size
    return cols


def _rule_findings(book: RuleBook) -> Iterable[Finding]:
    for origin, names in book.formatless.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        message = f"switches {names[0]}{more} on, but no rule gives it a format; state one"
        yield Finding("error", origin, message)
    for rule in book.unmatched:
        of_type = f" of type {rule.module_type}" if rule.module_type else ""
        message = f"{rule.pattern!r}{of_type} matches no quantizer of this model"
        if rule.must_match:
            yield Finding("error", rule.origin, f"{message}; mend the pattern or drop the rule")
        else:
            yield Finding("note", rule.origin, message)
