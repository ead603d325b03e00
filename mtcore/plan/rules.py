"""Which rule decides which slot: the last rule that matches wins; rules that matched nothing are remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtcore.recipe.setting import SlotRule, SlotSetting


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

    def decide(self, module: str, slot: str, *, is_weight: bool, module_type: str) -> Decision:
        """The decision for one slot of a module of that dotted name and registry key.

        A rule without a setting only switches on or off what earlier rules set.
        """
        setting: SlotSetting | None = None
        enabled = False
        last: SlotRule | None = None
        for rule in self.rules:
            if not rule.matches(module, slot, is_weight=is_weight, module_type=module_type):
                continue
            self._matched.add(rule.origin)
            last, enabled = rule, rule.enable
            setting = rule.setting if rule.setting is not None else setting
        return Decision(setting if enabled else None, last)

    @property
    def unmatched(self) -> tuple[SlotRule, ...]:
        """The first rule of every statement of the user that matched no slot so far."""
        first: dict[str, SlotRule] = {}
        for rule in self.rules:
            if rule.origin not in self._matched:
                first.setdefault(rule.origin, rule)
        return tuple(first.values())
