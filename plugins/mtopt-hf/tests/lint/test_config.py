"""What a configuration declares, also where it is damaged."""

import pytest

from mtopt_hf.lint.config import is_of_attention


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({"targets": ["LlamaAttention"]}, True),
        ({"targets": ["LlamaAttention"], "weights": None}, True),
        ({"targets": ["LlamaAttention"], "weights": {"num_bits": 8}}, False),
        ({"targets": ["Linear"]}, False),
        ({"targets": ["LlamaAttention", "Linear"]}, False),
        ({"targets": []}, False),
        ({}, False),
    ],
)
def test_a_group_on_one_attention_class_without_weights_is_of_attention(group, expected):
    assert is_of_attention(group) is expected


@pytest.mark.parametrize("targets", [5, True, {"a": 1}, {}, "LlamaAttention", None])
def test_linting_gets_past_a_group_whose_targets_are_no_list(peer, judge, tmp_path, targets):
    draft = peer("lc-nvfp4")
    draft.group.update(targets=targets)
    found = {finding.rule for finding in judge(draft.write(tmp_path / "checkpoint")).findings}
    assert "target-missing" in found
