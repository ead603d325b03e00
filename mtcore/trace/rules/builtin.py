"""The rules of torch's own operations."""

from __future__ import annotations

from mtcore.trace.rules import (
    attention,
    elementwise,
    factories,
    moves,
    norms,
    products,
    reductions,
    routing,
    scatters,
    spatial,
)
from mtcore.trace.rules.registry import OpRules


def builtin_rules() -> OpRules:
    """A new registry with a rule for every operation that torch's and transformers' layers dispatch."""
    rules = OpRules()
    for family in (
        routing,
        factories,
        moves,
        elementwise,
        reductions,
        products,
        norms,
        attention,
        scatters,
        spatial,
    ):
        family.register(rules)
    return rules
