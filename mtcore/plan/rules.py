"""Which rule decides which slot: the last rule that matches wins; rules that matched nothing are remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtcore.recipe.setting import ModuleRole, SlotRule, SlotSetting, quantizer_names


@dataclass(frozen=True)
class Decision:
    """The outcome for one slot: the setting (None: not quantized) and the rule that decided (None: no rule)."""

    setting: SlotSetting | None
    rule: SlotRule | None


class RuleBook:
    """Rules in order, and which of them matched something."""

    def __init__(self, rules: Sequence[SlotRule]) -> None:
        self.rules = tuple(rules)
        self._matched: set[str] = set()
        self._formatless: dict[str, list[str]] = {}

    def decide(
        self,
        module: str,
        slot: str,
        *,
        is_weight: bool,
        module_type: str,
        by_name_only: bool = False,
        role: ModuleRole | None = None,
    ) -> Decision:
        """The decision for one slot of a module of that dotted name, registry key and role.

        A rule without a setting only switches on or off what earlier rules set. With `by_name_only`, rules that
        switch on count only if they name the module, its type or its role.
        """
        setting: SlotSetting | None = None
        enabled = False
        last: SlotRule | None = None
        for rule in self.rules:
            if not rule.matches(module, slot, is_weight=is_weight, module_type=module_type, role=role):
                continue
            if by_name_only and rule.enable and not rule.names(module):
                continue
            self._matched.add(rule.alternatives)
            last, enabled = rule, rule.enable
            setting = rule.setting if rule.setting is not None else setting
        if enabled and setting is None and last is not None:
            self._formatless.setdefault(last.origin, []).append(
                quantizer_names(module, slot, is_weight=is_weight)[0]
            )
        return Decision(setting if enabled else None, last)

    @property
    def formatless(self) -> Mapping[str, Sequence[str]]:
        """Origin of a rule → quantizers that it switched on although no rule gave them a format."""
        return self._formatless

    @property
    def unmatched(self) -> tuple[SlotRule, ...]:
        """The first rule of every set of alternatives of which none matched a slot so far."""
        first: dict[str, SlotRule] = {}
        for rule in self.rules:
            if rule.alternatives not in self._matched:
                first.setdefault(rule.alternatives, rule)
        return tuple(first.values())
