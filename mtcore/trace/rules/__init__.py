"""Rules of operations, one file a family."""

from mtcore.trace.rules.builtin import builtin_rules
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules, Rule, TraceRuleSpec

__all__ = ["Call", "OpRules", "Rule", "RuleContext", "TraceRuleSpec", "builtin_rules"]
