"""Statements of several rules, and what cannot stand in them."""

import pytest

from mtcore.recipe import to_dict


def test_rules_that_stand_together_are_one_statement(load):
    rules = [{"together": [{"modules": "*.a", "weight": "fp8"}, {"quantizers": "*.b.*", "enable": False}]}]
    config = load({"rules": rules})
    assert [rule.pattern for rule in config.rules] == ["*.a.weight_quantizer", "*.b.*"]
    assert {rule.origin for rule in config.rules} == {"rule #1 of the given config"}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"include": "fp8"}, "(rules.0.together.0.include): a recipe can be included in the list of rules only"),
        ({"together": [{"weight": "fp8"}]}, "(rules.0.together.0): rules that stand together cannot hold others"),
        ({}, "(rules.0.together.0): the rule says nothing"),
        ("fp8", "(rules.0.together.0): input should be"),
        ({"weight": "fp9"}, "(rules.0.together.0.weight.format): no format named 'fp9'"),
    ],
)
def test_a_mistake_inside_has_its_own_place(entry, expected, problems_of):
    (problem,) = problems_of({"rules": [{"together": [entry]}]})
    assert expected in problem


def test_a_constant_amax_is_kept_and_said_and_survives_a_dump(load, decide, formats):
    config = load({"rules": [{"k": {"format": "fp8", "amax": 448}}, {"v": {"format": "nvfp4", "amax": 448.0}}]})
    for slot, said in (("k", "fp8 (static, amax 448: no"), ("v", "nvfp4 (dynamic_blocks, amax 448: no")):
        setting = decide(config, "attn", slot)
        assert setting.amax == 448.0
        assert said in str(setting)
    assert load(to_dict(config, formats=formats)).rules[0].setting == config.rules[0].setting
    assert decide(load("fp8_kv_fp8", "rules.2.k.amax=2"), "attn", "k").amax == 2.0


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"weight": {"format": "fp8", "amax": 448}}, "(rules.0.weight.amax): a weight's amax is its own"),
        ({"k": {"format": "fp8_row", "amax": 448}}, "(rules.0.k.amax): mode dynamic takes every amax from the"),
        ({"k": {"format": "fp8", "amax": 0}}, "(rules.0.k.amax): input should be greater than"),
        ({"k": {"format": "fp8", "amax": float("nan")}}, "(rules.0.k.amax): input should be a finite number"),
        ({"k": {"format": "fp8", "amax": "much"}}, "(rules.0.k.amax): input should be a valid number"),
        (
            {"quantizers": "*", "set": {"format": "fp8", "amax": 1}},
            "(rules.0.set.amax): a weight's amax is its own",
        ),
    ],
)
def test_an_amax_that_cannot_be_constant_is_a_problem_at_its_place(rule, expected, problems_of):
    (problem,) = problems_of({"rules": [rule]})
    assert expected in problem


def test_an_empty_together_is_a_problem(problems_of):
    (problem,) = problems_of({"rules": [{"together": []}]})
    assert "(rules.0.together): list should have at least 1 item" in problem


def test_switching_on_before_any_format_is_given_is_a_problem(problems_of):
    (problem,) = problems_of({"rules": [{"quantizers": "*", "enable": True}, {"weight": "fp8"}]})
    assert problem.startswith("rule #1 of the given config: it switches quantizers on, but no rule before it")
