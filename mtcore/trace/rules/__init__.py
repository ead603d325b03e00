"""Rules of operations, one file a family."""

from mtcore.trace.rules.builtin import builtin_rules
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules, Rule

__all__ = ["Call", "OpRules", "Rule", "RuleContext", "builtin_rules"]
