"""Model-Optimizer's quantizer names become ours, pattern by pattern."""

import pytest

from mtcore.recipe.foreign.patterns import rewritten


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("*weight_quantizer", "*weight_quantizer"),
        ("*[kv]_bmm_quantizer", "*[kv]_quantizer"),
        ("*q_bmm_quantizer", "*q_quantizer"),
        ("*bmm_quantizer", "*.[qkv]_quantizer"),
        ("*.experts.*weight_quantizers.*", "*.experts.*weight_quantizer"),
        ("*weight_quantizers*", "*weight_quantizer"),
        ("*softmax_quantizer", "*softmax_quantizer"),
        ("*bmm2_output_quantizer", None),
        ("*p_bmm_quantizer", "*softmax_quantizer"),
        ("*lm_head*", "*lm_head*"),
    ],
)
def test_a_pattern_is_rewritten(foreign, ours):
    assert rewritten(foreign) == ours
