"""Settings and rules are values; they know which slots they speak of and which modes are possible."""

import pytest

from mtcore.formats.catalog import FP8, FP8_ROW, INT8_ROW, NVFP4, int_block_asym
from mtcore.recipe import SlotRule, default_mode, mode_problem
from mtcore.recipe.setting import amax_problem


def rule(pattern, **fields):
    return SlotRule(pattern, None, enable=True, origin="rule #1 of recipe test", **fields)


@pytest.mark.parametrize(
    ("fmt", "is_weight", "mode"),
    [
        (FP8, True, "static"),
        (NVFP4, True, "static"),
        (INT8_ROW, True, "static"),
        (FP8, False, "static"),
        (FP8_ROW, False, "dynamic"),
        (NVFP4, False, "dynamic_blocks"),
    ],
)
def test_a_slot_without_a_stated_mode_is_as_static_as_it_can_be(fmt, is_weight, mode):
    assert default_mode(fmt, is_weight=is_weight) == mode
    assert mode_problem(fmt, mode, is_weight=is_weight) is None


def test_dynamic_blocks_needs_an_outer_scale():
    assert "needs a format with an outer scale; fp8 has none" in mode_problem(
        FP8, "dynamic_blocks", is_weight=False
    )


@pytest.mark.parametrize(("fmt", "instead"), [(FP8_ROW, "use dynamic"), (NVFP4, "use dynamic_blocks or dynamic")])
def test_a_static_activation_cannot_have_scales_that_follow_tokens(fmt, instead):
    problem = mode_problem(fmt, "static", is_weight=False)
    assert problem.endswith(instead)
    assert mode_problem(fmt, "static", is_weight=True) is None


@pytest.mark.parametrize(("fmt", "mode"), [(FP8, "static"), (NVFP4, "dynamic_blocks")])
def test_a_slot_with_one_fixed_scale_a_tensor_can_have_a_constant_amax(fmt, mode):
    assert amax_problem(fmt, mode, is_weight=False) is None
    assert "a weight's amax is its own" in amax_problem(fmt, mode, is_weight=True)
    assert "mode dynamic takes every amax from the tensor" in amax_problem(fmt, "dynamic", is_weight=False)


@pytest.mark.parametrize("fmt", [NVFP4, INT8_ROW, int_block_asym(4, 128)])
def test_no_slot_with_other_fixed_scales_can_have_a_constant_amax(fmt):
    assert "others, from data" in amax_problem(fmt, "static", is_weight=False)


@pytest.mark.parametrize(
    ("pattern", "module", "slot", "expected"),
    [
        ("*weight_quantizer", "a.b", "weight", True),
        ("*weight_quantizer", "", "weight", True),
        ("*weight_quantizer", "a.b", "input", False),
        ("*lm_head*", "lm_head", "output", True),
        ("*LM_head*", "lm_head", "output", False),
        ("a.?.weight_quantizer", "a.b", "weight", True),
        ("a.[!b].weight_quantizer", "a.b", "weight", False),
    ],
)
def test_a_pattern_is_a_glob_on_the_full_quantizer_name(pattern, module, slot, expected):
    assert rule(pattern).matches(module, slot, is_weight=slot == "weight", module_type="nn.Linear") is expected


def test_a_weight_of_its_own_name_is_also_the_weight_of_its_module():
    for pattern in ("*.weight_quantizer", "*down_proj*", "*weight_quantizer"):
        assert rule(pattern).matches("mlp.experts", "down_proj", is_weight=True, module_type=None)
    assert not rule("*.input_quantizer").matches("mlp.experts", "down_proj", is_weight=True, module_type=None)


def test_a_rule_on_a_module_type_leaves_others_alone():
    typed = rule("*", module_type="nn.Linear")
    assert typed.matches("a", "weight", is_weight=True, module_type="nn.Linear")
    assert not typed.matches("a", "weight", is_weight=True, module_type="nn.Conv2d")
    assert not typed.matches("a", "weight", is_weight=True, module_type=None)


def test_a_rule_on_one_kind_of_tensor_leaves_the_other_alone():
    weights = rule("*", only="weight")
    assert weights.matches("a", "weight", is_weight=True, module_type=None)
    assert not weights.matches("a", "input", is_weight=False, module_type=None)
    assert rule("*", only="activation").matches("a", "input", is_weight=False, module_type=None)


def test_only_a_rule_that_switches_something_on_must_match():
    assert rule("*").must_match
    assert not SlotRule("*", None, enable=False, origin="").must_match
