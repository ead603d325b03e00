"""What a pattern can reach decides whether weights, activations or both get a setting."""

import pytest

from mtcore.formats.catalog import FP8, NVFP4
from mtcore.recipe import SlotSetting
from mtcore.recipe.expand import kinds_reached, rules_for

BOTH, WEIGHT, ACTIVATION, NONE = {"weight", "activation"}, {"weight"}, {"activation"}, set()


@pytest.mark.parametrize(
    ("pattern", "kinds"),
    [
        ("*", BOTH),
        ("*lm_head*", BOTH),
        ("*quantizer", BOTH),
        ("*.[wi]*_quantizer", BOTH),
        ("*weight_quantizer", WEIGHT),
        ("*.gate_up_proj_weight_quantizer", WEIGHT),
        ("a.weight_quantize?", WEIGHT),
        ("weight_quantizer", WEIGHT),
        ("*input_quantizer", ACTIVATION),
        ("input_quantizer", ACTIVATION),
        ("*[kv]_quantizer", ACTIVATION),
        ("*[!w]*t_quantizer", BOTH),
        ("*.[!w]nput_quantizer", ACTIVATION),
        ("*lm_head", NONE),
        ("*softmax_quantizer", ACTIVATION),
        ("xinput_quantizer", NONE),
        ("", NONE),
    ],
)
def test_a_pattern_reaches_the_kinds_that_some_name_of_it_has(pattern, kinds):
    assert kinds_reached(pattern) == kinds


def test_one_rule_is_enough_where_the_settings_agree():
    (rule,) = rules_for("*", lambda is_weight: SlotSetting(FP8, "static"), enable=True, origin="here")
    assert rule.only == "any"


def test_two_rules_of_one_origin_where_they_differ():
    activation, weight = rules_for(
        "*",
        lambda is_weight: SlotSetting(NVFP4, "static" if is_weight else "dynamic_blocks"),
        enable=True,
        origin="here",
    )
    assert (activation.only, weight.only) == ("activation", "weight")
    assert activation.origin == weight.origin == "here"


def test_a_problem_with_one_kind_gives_no_rule():
    assert rules_for("*", lambda is_weight: None, enable=True, origin="here") == []
