"""The decision on one module: its quantized form, and what the rules say about each of its slots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from mtcore.nn import Match, QuantModuleSpec, match_spec, type_key
from mtcore.nn.wrapped import is_replaced
from mtcore.plan.found import Facts, Found
from mtcore.plan.plan import ModulePlan, SlotPlan
from mtcore.plan.rules import RuleBook
from mtcore.recipe.setting import ModuleRole, SlotRule
from mtcore.trace import Router

NAMED_ONLY = "left as it is: a rule reaches it only by its type or its own name"


def plan_module(
    name: str,
    module: nn.Module,
    book: RuleBook,
    specs: Mapping[str, QuantModuleSpec],
    found: Found | None = None,
    router: Router | None = None,
) -> ModulePlan | None:
    """What will be done to a module; None for one without parameters that stays as it is.

    `found` is what the trace told about it; a record that matches its type comes first. `router`: it is one.
    """
    match = match_spec(module, specs.values())
    key = match.spec.name if match.spec is not None else type_key(module)
    facts: Facts = {}
    if match.spec is None and found is not None and not is_replaced(module):
        match, facts = Match(found.spec, ""), found.facts
    parameters = {p: tuple(value.shape) for p, value in module._parameters.items() if value is not None}
    if match.spec is None and not parameters:
        return None
    slots: list[SlotPlan] = []
    reason, by_rule = match.reason, False
    if match.spec is not None:
        slots, reason, by_rule = _plan_slots(name, key, match.spec, tuple(parameters), facts, book, router)
    else:
        keys = (key,) if match.kin is None else (key, match.kin.name)
        left = [_left(name, parameters, one, book, router) for one in keys]
        rule = next((found for found in left if found is not None), None)
        if rule is not None:
            reason, by_rule = _left_by(rule, router), True
    if not parameters and not slots:
        return None
    spec = match.spec.name if match.spec is not None else None
    shapes = tuple(parameters.items())
    return ModulePlan(
        name, type(module).__name__, spec, shapes, tuple(slots), reason, by_rule, tuple(facts.items())
    )


def _left(name: str, parameters: Iterable[str], key: str, book: RuleBook, router: Router | None) -> SlotRule | None:
    """A rule that leaves all of a module's parameters as they are, or None."""
    decisions = [
        book.decide(name, parameter, is_weight=True, module_type=key, role=_role(router))
        for parameter in parameters
    ]
    off = [decision.rule for decision in decisions if decision.rule is not None and not decision.rule.enable]
    return off[-1] if off and len(off) == len(decisions) else None


def _plan_slots(
    name: str,
    key: str,
    spec: QuantModuleSpec,
    parameters: tuple[str, ...],
    facts: Facts,
    book: RuleBook,
    router: Router | None,
) -> tuple[list[SlotPlan], str, bool]:
    planned, off = [], None
    weights = [weight.parameter for weight in spec.weights_of(parameters, facts)]
    for slot in (*weights, *spec.activations_of(facts)):
        decision = book.decide(
            name,
            slot,
            is_weight=slot in weights,
            module_type=key,
            by_name_only=spec.by_name_only,
            role=_role(router),
        )
        if decision.setting is not None and decision.rule is not None:
            setting = decision.setting
            planned.append(SlotPlan(slot, setting.format, setting.mode, decision.rule.origin, amax=setting.amax))
        elif decision.rule is not None:
            off = decision.rule
    if planned:
        origins = dict.fromkeys(slot.rule for slot in planned)
        return planned, ", ".join(origins), True
    if off is not None:
        return [], _left_by(off, router), True
    return [], NAMED_ONLY if spec.by_name_only else "no rule matches it", False


def _role(router: Router | None) -> ModuleRole | None:
    return "router" if router is not None else None


def _left_by(rule: SlotRule, router: Router | None) -> str:
    why = f": it chooses among {router.count} experts" if rule.role == "router" and router is not None else ""
    return f"left as it is by {rule.origin}{why}"
