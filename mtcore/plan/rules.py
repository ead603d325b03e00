"""Which rule decides which slot: the last rule that matches wins; rules that matched nothing are remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mtcore.recipe.setting import SlotRule, SlotSetting


@dataclass(frozen=True)
class Decision:
    """The outcome for one slot: the setting (None: not quantized) and the rule that decided (None: no rule)."""

    setting: SlotSetting | None
    rule: SlotRule | None


class RuleBook:
    """Rules in order, and how often each one matched."""

    def __init__(self, rules: Sequence[SlotRule]) -> None:
        self.rules = tuple(rules)
        self._hits = [0] * len(self.rules)

    def decide(self, module: str, slot: str, type_key: str) -> Decision:
        """The decision for `<module>.<slot>_quantizer` of a module of that type.

        A rule without a setting only switches on or off what earlier rules set.
        """
        name = f"{module}.{slot}_quantizer" if module else f"{slot}_quantizer"
        setting: SlotSetting | None = None
        enabled = False
        last: SlotRule | None = None
        for index, rule in enumerate(self.rules):
            if rule.module_type not in (None, type_key) or not fnmatchcase(name, rule.pattern):
                continue
            self._hits[index] += 1
            last, enabled = rule, rule.enable
            setting = rule.setting if rule.setting is not None else setting
        return Decision(setting if enabled else None, last)

    @property
    def unmatched(self) -> tuple[SlotRule, ...]:
        """Rules that matched no slot so far."""
        return tuple(rule for rule, hits in zip(self.rules, self._hits, strict=True) if not hits)
