"""The rules, by what they look at."""

from collections.abc import Iterator

from mtcore.lint import RuleSpec
from mtopt_hf.lint.rules import config, fused, ignoring, kv, opening, roles, scales, seen, tensors

TOPICS = (config, ignoring, tensors, scales, fused, kv, roles, seen, opening)


def dialect_rules() -> Iterator[RuleSpec]:
    """All rules that know dialects and clients."""
    for topic in TOPICS:
        yield from topic.RULES
