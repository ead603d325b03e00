"""Model-Optimizer's names of quantizers in a pattern, rewritten as ours."""

from __future__ import annotations

import re

_REWRITES = (
    (re.compile(r"\bbmm2_output_quantizer"), None),
    (re.compile(r"\bp_bmm_quantizer"), "softmax_quantizer"),
    (re.compile(r"\*bmm_quantizer"), "*.[qkv]_quantizer"),
    (re.compile(r"_bmm_quantizer"), "_quantizer"),
    (re.compile(r"weight_quantizers(\.\*|\*)?$"), "weight_quantizer"),
)
"""Foreign spelling → ours; None: a place that has no quantizer here."""


def rewritten(pattern: str) -> str | None:
    """The pattern over our quantizer names, or None where it speaks of a quantizer that does not exist here.

    Example:
        >>> rewritten("*[kv]_bmm_quantizer"), rewritten("*bmm2_output_quantizer")
        ('*[kv]_quantizer', None)
    """
    for foreign, ours in _REWRITES:
        if foreign.search(pattern):
            if ours is None:
                return None
            pattern = foreign.sub(ours, pattern)
    return pattern
