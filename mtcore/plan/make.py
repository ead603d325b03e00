"""From recipe, model and trace to a plan. Touches nothing; works on meta tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import nn

from mtcore.nn import QuantModuleSpec
from mtcore.plan.coverage import coverage_findings, measure_coverage
from mtcore.plan.found import found_modules
from mtcore.plan.groups import lists_of, scale_groups
from mtcore.plan.one_module import plan_module
from mtcore.plan.parents import children_read, without_orphans
from mtcore.plan.plan import Finding, ModulePlan, Plan
from mtcore.plan.rules import RuleBook
from mtcore.plan.shapes import shape_findings
from mtcore.plan.sharing import shared_parameters
from mtcore.plan.streams import residual_streams
from mtcore.recipe.setting import QuantizeConfig
from mtcore.trace import TraceReport


def make_plan(
    model: nn.Module,
    config: QuantizeConfig,
    specs: Mapping[str, QuantModuleSpec],
    trace: TraceReport | None = None,
    untraced: str = "no trace was made",
) -> Plan:
    """Decide about every module that holds parameters of its own, and about others that rules reach.

    Args:
        model: read only; parameters may be on the meta device.
        config: the request.
        specs: quantized layers by name.
        trace: of this model; where None, no scales are shared or folded, which is a finding.
        untraced: why there is no trace.

    Returns:
        The plan. Problems do not raise: they are its findings of level "error".
    """
    book = RuleBook(config.rules)
    tied = shared_parameters(model)
    uncalled = frozenset(trace.uncalled) if trace is not None else frozenset()
    read_by_parents = children_read(model, specs)
    found, findings = found_modules(trace, specs)
    routers = {router.module: router for router in trace.routers} if trace is not None else {}
    modules: list[ModulePlan] = []
    for name, module in model.named_modules():
        planned = plan_module(name, module, book, specs, found.get(name), routers.get(name))
        if planned is None:
            continue
        if planned.quantized and name in tied:
            findings.append(Finding("warning", name, f"stays as it is: {tied[name]}"))
            planned = replace(planned, slots=(), reason=tied[name], by_rule=True)
        if planned.quantized and name in uncalled and name not in read_by_parents:
            findings.append(Finding("warning", name, "is quantized but was not called by the example inputs"))
        modules.append(planned)
        if planned.spec is not None:
            findings.extend(shape_findings(planned, module, specs[planned.spec]))
    modules, left = without_orphans(modules, read_by_parents)
    findings.extend(left)
    shared = trace.shared_inputs if trace is not None else ()
    grouped, groups = scale_groups(modules, shared, lists_of(model))
    coverage = measure_coverage(model, grouped)
    if trace is None:
        findings.append(Finding("warning", "trace", f"no scales are shared: {untraced}"))
    findings.extend(_rule_findings(book))
    findings.extend(coverage_findings(model, grouped, coverage, config.max_unquantized))
    wanted = any(rule.enable for rule in book.rules) and all(finding.level != "error" for finding in findings)
    if wanted and not any(module.quantized for module in grouped):
        findings.append(Finding("error", "recipe", _nothing(grouped)))
    return Plan(
        config.name,
        grouped,
        groups,
        config.algorithm,
        tuple(findings),
        coverage,
        config.experts,
        config.targets,
        folds=trace.folds if trace is not None else (),
        shared_inputs=shared,
        streams=residual_streams(model, trace.symbols) if trace is not None else (),
    )


def _nothing(modules: Sequence[ModulePlan]) -> str:
    """What to say of a recipe that would quantize nothing."""
    reasons = dict.fromkeys(f"{module.name or 'the model'} ({module.reason})" for module in modules)
    some = "; ".join(list(reasons)[:3]) + ("; …" if len(reasons) > 3 else "")
    return f"quantizes nothing of this model: {some or 'it has no layers with weights'}. See `mtopt plan --all`"


def _rule_findings(book: RuleBook) -> Iterable[Finding]:
    for origin, names in book.formatless.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        message = f"switches {names[0]}{more} on, but no rule gives it a format; state one"
        yield Finding("error", origin, message)
    for rule in book.unmatched:
        of_type = f" of type {rule.module_type}" if rule.module_type else ""
        with_role = f" of a {rule.role}" if rule.role else ""
        message = f"{rule.pattern!r}{of_type}{with_role} matches no quantizer of this model"
        if rule.must_match:
            yield Finding("error", rule.origin, f"{message}; mend the pattern or drop the rule")
        else:
            yield Finding("note", rule.origin, message)
