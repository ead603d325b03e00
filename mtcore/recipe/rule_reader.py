"""One statement of our own grammar as rules: patterns made, names looked up, impossible combinations noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtcore.errors import UnknownNameError
from mtcore.recipe.document import Document, KeyPath
from mtcore.recipe.expand import kinds_reached, rules_for
from mtcore.recipe.grammar import (
    OFF,
    IncludeRule,
    ModuleRule,
    QuantizerRule,
    Rule,
    SlotModel,
    TogetherRule,
    check,
    rule_model,
)
from mtcore.recipe.parts import Scope
from mtcore.recipe.setting import (
    DEFAULT_MODE,
    SLOTS,
    SlotRule,
    SlotSetting,
    amax_problem,
    default_mode,
    mode_problem,
)


@dataclass(frozen=True)
class RuleReader:
    """Reads the rules of one statement; all of them get its origin."""

    doc: Document
    scope: Scope
    origin: str

    def read(self, rule: Rule, written: Mapping[str, Any], path: KeyPath) -> list[SlotRule]:
        """The rules that `rule` means; `written` is its text, which may hold keys that were noted and left out."""
        match rule:
            case ModuleRule():
                return self._module_rules(rule, path, whole=len(written) == len(rule.model_fields_set))
            case QuantizerRule():
                return self._quantizer_rules(rule, path, whole=len(written) == len(rule.model_fields_set))
            case TogetherRule():
                return self._together(rule, path)
            case IncludeRule():
                self._problem((*path, "include"), "a recipe can be included in the list of rules only")
                return []

    def _problem(self, path: KeyPath, message: str) -> None:
        self.scope.problems.add(self.doc.place(path), message)

    def _together(self, rule: TogetherRule, path: KeyPath) -> list[SlotRule]:
        rules: list[SlotRule] = []
        for index, entry in enumerate(rule.together):
            where = (*path, "together", index)
            if isinstance(entry, dict) and "together" in entry:
                self._problem(where, "rules that stand together cannot hold others that do")
                continue
            inner = check(rule_model(entry), entry, where, self.doc, self.scope.problems)
            if inner is not None:
                rules += self.read(inner, entry, where)
        return rules

    def _module_rules(self, rule: ModuleRule, path: KeyPath, *, whole: bool) -> list[SlotRule]:
        slots: dict[str, SlotModel] = {slot: model for slot in SLOTS if (model := getattr(rule, slot)) is not None}
        if rule.skip and slots:
            self._problem(path, "skip: true switches every slot off; the rule cannot set one too")
        if whole and not rule.skip and not slots:
            self._problem(path, f"the rule says nothing; set a slot ({', '.join(SLOTS)}) or skip: true")
        if rule.skip:
            return [
                SlotRule(_pattern(glob, "*"), None, False, self.origin, rule.type, role=rule.role)
                for glob in rule.modules
            ]
        rules: list[SlotRule] = []
        for slot, model in slots.items():
            off = model.format == OFF
            setting = None if off else self._setting(model, (*path, slot), is_weight=slot == "weight")
            if off or setting is not None:
                rules += [
                    SlotRule(_pattern(glob, slot), setting, not off, self.origin, rule.type, role=rule.role)
                    for glob in rule.modules
                ]
        return rules

    def _quantizer_rules(self, rule: QuantizerRule, path: KeyPath, *, whole: bool) -> list[SlotRule]:
        model = rule.set
        if model is None and rule.enable is None:
            if whole:
                self._problem(path, "the rule says nothing; give set: FORMAT, or enable: true or false")
            return []
        on = rule.enable is not False and not (model is not None and model.format == OFF)
        for pattern in rule.quantizers:
            if on and not kinds_reached(pattern):
                known = ", ".join(f"{slot}_quantizer" for slot in SLOTS)
                message = f"no quantizer's name can match {pattern!r}; names end in {known}"
                self._problem((*path, "quantizers"), message)
        if model is None or model.format == OFF:
            return [
                SlotRule(glob, None, on, self.origin, rule.type, rule.only, rule.role) for glob in rule.quantizers
            ]
        rules: list[SlotRule] = []
        for pattern in rule.quantizers:
            rules += rules_for(
                pattern,
                lambda is_weight: self._setting(model, (*path, "set"), is_weight=is_weight),
                enable=on,
                origin=self.origin,
                module_type=rule.type,
                only=rule.only,
                role=rule.role,
            )
        return rules

    def _setting(self, model: SlotModel, path: KeyPath, *, is_weight: bool) -> SlotSetting | None:
        try:
            fmt = self.scope.find_format(model.format)
        except UnknownNameError as error:
            self._problem((*path, "format"), str(error))
            return None
        mode = model.mode or default_mode(fmt, is_weight=is_weight)
        problem = mode_problem(fmt, mode, is_weight=is_weight)
        if problem is not None:
            self._problem((*path, "mode"), problem)
            return None
        if model.amax is not None and (problem := amax_problem(fmt, mode, is_weight=is_weight)) is not None:
            self._problem((*path, "amax"), problem)
            return None
        return SlotSetting(fmt, mode, model.options, "stated" if model.mode else DEFAULT_MODE, model.amax)


def _pattern(modules: str, slot: str) -> str:
    """The quantizers of a slot: `*` stands for all modules, the model itself among them."""
    return f"*{slot}_quantizer".replace("**", "*") if modules == "*" else f"{modules}.{slot}_quantizer"
