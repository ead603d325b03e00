"""Our own grammar, resolved: includes merged, names looked up, every statement turned into rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

from mtcore.errors import UnknownNameError
from mtcore.recipe.algorithm import read_algorithm
from mtcore.recipe.document import Document, KeyPath
from mtcore.recipe.expand import kinds_reached, rules_for
from mtcore.recipe.grammar import (
    OFF,
    IncludeRule,
    ModuleRule,
    QuantizerRule,
    RecipeModel,
    SlotModel,
    check,
    rule_model,
)
from mtcore.recipe.parts import Guard, Parts, Scope
from mtcore.recipe.setting import DEFAULT_MODE, SLOTS, SlotRule, SlotSetting, default_mode, mode_problem


def resolve_own(doc: Document, scope: Scope) -> Parts:
    """What a document in our grammar says. Problems are noted in the scope; what remains is then incomplete."""
    recipe = check(RecipeModel, doc.data, (), doc, scope.problems)
    if recipe is None:
        return Parts()
    parts = Parts()
    for index, name in enumerate(recipe.include):
        parts = _merged(parts, scope.include(name, ("include", index), doc))
    scope = replace(scope, formats={**scope.formats, **parts.formats})
    rules = list(parts.rules)
    notes = list(parts.notes)
    for index, entry in enumerate(recipe.rules):
        path: KeyPath = ("rules", index)
        known_problems = len(scope.problems)
        rule = check(rule_model(entry), entry, path, doc, scope.problems)
        if rule is not None and len(scope.problems) == known_problems:
            _check_sense(rule, path, doc, scope)
        if isinstance(rule, IncludeRule):
            included = scope.include(rule.include, (*path, "include"), doc)
            rules += included.rules
            notes += included.notes
        elif isinstance(rule, QuantizerRule):
            rules += _quantizer_rules(rule, path, doc, scope)
        elif rule is not None:
            rules += _module_rules(rule, path, doc, scope)
    algorithm, guard = parts.algorithm, parts.guard
    if "algorithm" in recipe.model_fields_set:
        algorithm = read_algorithm(recipe.algorithm, ("algorithm",), doc, scope.problems)
    if recipe.max_unquantized is not None:
        guard = Guard(recipe.max_unquantized, doc.origin("max_unquantized", ("max_unquantized",)))
    return Parts(
        name=recipe.name or "",
        summary=recipe.summary,
        rules=tuple(rules),
        algorithm=algorithm,
        guard=guard,
        formats=parts.formats,
        notes=tuple(notes),
    )


def _merged(first: Parts, later: Parts) -> Parts:
    """Two includes as one: rules in order, single values of the later one."""
    return Parts(
        rules=first.rules + later.rules,
        algorithm=first.algorithm if later.algorithm is None else later.algorithm,
        guard=later.guard or first.guard,
        formats={**first.formats, **later.formats},
        notes=first.notes + later.notes,
    )


def _origin(path: KeyPath, doc: Document) -> str:
    return doc.origin(f"rule #{int(path[1]) + 1}", path)


def _check_sense(
    rule: ModuleRule | QuantizerRule | IncludeRule, path: KeyPath, doc: Document, scope: Scope
) -> None:
    """Note a rule whose keys are fine one by one but make no statement together."""
    match rule:
        case ModuleRule():
            slots = _slots(rule)
            if rule.skip and slots:
                scope.problems.add(
                    doc.place(path), "skip: true switches every slot off; the rule cannot set one too"
                )
            elif not rule.skip and not slots:
                what = ", ".join(SLOTS)
                scope.problems.add(doc.place(path), f"the rule says nothing; set a slot ({what}) or skip: true")
        case QuantizerRule():
            if rule.set is None and rule.enable is None:
                scope.problems.add(
                    doc.place(path), "the rule says nothing; give set: FORMAT, or enable: true or false"
                )
            if not kinds_reached(rule.quantizers):
                known = ", ".join(f"{slot}_quantizer" for slot in SLOTS)
                message = f"no quantizer's name can match {rule.quantizers!r}; names end in {known}"
                scope.problems.add(doc.place((*path, "quantizers")), message)


def _slots(rule: ModuleRule) -> dict[str, SlotModel]:
    return {slot: getattr(rule, slot) for slot in SLOTS if getattr(rule, slot) is not None}


def _module_rules(rule: ModuleRule, path: KeyPath, doc: Document, scope: Scope) -> list[SlotRule]:
    origin = _origin(path, doc)
    if rule.skip:
        return [SlotRule(_pattern(glob, "*"), None, False, origin, rule.type) for glob in rule.modules]
    rules: list[SlotRule] = []
    for slot, model in _slots(rule).items():
        off = model.format == OFF
        setting = None if off else _setting(model, slot == "weight", (*path, slot), doc, scope)
        if off or setting is not None:
            rules += [SlotRule(_pattern(glob, slot), setting, not off, origin, rule.type) for glob in rule.modules]
    return rules


def _pattern(modules: str, slot: str) -> str:
    """The quantizers of a slot: `*` stands for all modules, the model itself among them."""
    return f"*{slot}_quantizer".replace("**", "*") if modules == "*" else f"{modules}.{slot}_quantizer"


def _quantizer_rules(rule: QuantizerRule, path: KeyPath, doc: Document, scope: Scope) -> list[SlotRule]:
    origin = _origin(path, doc)
    only = cast(Literal["weight", "activation", "any"], rule.only)
    if rule.set is None or rule.set.format == OFF:
        enable = rule.set is None and rule.enable is True
        return [SlotRule(rule.quantizers, None, enable, origin, rule.type, only)]
    model = rule.set
    return rules_for(
        rule.quantizers,
        lambda is_weight: _setting(model, is_weight, (*path, "set"), doc, scope),
        enable=rule.enable is not False,
        origin=origin,
        module_type=rule.type,
        only=only,
    )


def _setting(model: SlotModel, is_weight: bool, path: KeyPath, doc: Document, scope: Scope) -> SlotSetting | None:
    fmt = scope.formats.get(model.format)
    if fmt is None:
        error = UnknownNameError("format", model.format, scope.formats)
        scope.problems.add(doc.place((*path, "format")), str(error))
        return None
    mode = model.mode or default_mode(fmt, is_weight=is_weight)
    mode_origin = "stated" if model.mode else DEFAULT_MODE
    problem = mode_problem(fmt, mode, is_weight=is_weight)
    if problem is not None:
        scope.problems.add(doc.place((*path, "mode")), problem)
        return None
    return SlotSetting(fmt, mode, model.options, mode_origin)
