"""Statements of several rules, and what cannot stand in them."""

import pytest


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


def test_an_empty_together_is_a_problem(problems_of):
    (problem,) = problems_of({"rules": [{"together": []}]})
    assert "(rules.0.together): list should have at least 1 item" in problem


def test_switching_on_before_any_format_is_given_is_a_problem(problems_of):
    (problem,) = problems_of({"rules": [{"quantizers": "*", "enable": True}, {"weight": "fp8"}]})
    assert problem.startswith("rule #1 of the given config: it switches quantizers on, but no rule before it")
