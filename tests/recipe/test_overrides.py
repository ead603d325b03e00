"""Overrides change one value by its path, and say clearly when they cannot."""

import pytest

from mtcore.errors import RecipeError
from mtcore.recipe.document import Document, Problems
from mtcore.recipe.overrides import apply_overrides

DATA = {
    "rules": [{"modules": "*", "weight": "nvfp4"}, {"include": "base"}],
    "algorithm": "max",
    "quant_cfg": {"*.linear.weight_quantizer": {"num_bits": 4}},
}


def override(*texts, data=DATA):
    problems = Problems()
    document = apply_overrides(Document("recipe a", data), texts, problems)
    problems.raise_if_any()
    return document


@pytest.mark.parametrize(
    ("text", "look"),
    [
        ("rules.0.weight=fp8", lambda d: d["rules"][0]["weight"] == "fp8"),
        ("rules.0.weight={format: fp8, mode: dynamic}", lambda d: d["rules"][0]["weight"]["mode"] == "dynamic"),
        (
            "rules.0.weight.mode=dynamic",
            lambda d: d["rules"][0]["weight"] == {"format": "nvfp4", "mode": "dynamic"},
        ),
        ("rules.0.input=off", lambda d: d["rules"][0]["input"] is False),
        ("rules.+={skip: true}", lambda d: d["rules"][2] == {"skip": True}),
        ("rules.+.weight=fp8", lambda d: d["rules"][2] == {"weight": "fp8"}),
        ("algorithm.alpha=0.5", lambda d: d["algorithm"] == {"method": "max", "alpha": 0.5}),
        ("algorithm=[max, {method: awq}]", lambda d: d["algorithm"] == ["max", {"method": "awq"}]),
        ("max_unquantized=1.0", lambda d: d["max_unquantized"] == 1.0),
        ("a.b.c=1", lambda d: d["a"] == {"b": {"c": 1}}),
        ("quant_cfg.*.linear.weight_quantizer.num_bits=8", lambda d: len(d["quant_cfg"]) == 1),
        ("algorithm=", lambda d: d["algorithm"] is None),
    ],
)
def test_an_override_sets_the_value_at_its_path(text, look):
    assert look(override(text).data)


def test_overrides_apply_in_order_and_leave_the_source_alone():
    assert override("algorithm=mse", "algorithm.step=0.1").data["algorithm"] == {"method": "mse", "step": 0.1}
    assert DATA["algorithm"] == "max"


def test_a_step_of_an_algorithm_list_is_spelled_out():
    assert override("algorithm.1.alpha=1", data={"algorithm": ["max", "awq"]}).data["algorithm"] == [
        "max",
        {"method": "awq", "alpha": 1},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules.0.weight", "an override reads path=value"),
        ("=1", "an override reads path=value"),
        ("rules.2.weight=fp8", "rules has 2 entries, counted from 0; there is no 2"),
        ("rules.first.weight=fp8", "rules is a list; 'first' is neither an index nor '+'"),
        ("rules.0.modules.x=1", "rules.0.modules is '*'; nothing lies below it"),
        ("algorithm=[", "not valid YAML"),
        ("a=2020-01-01", "is a date"),
    ],
)
def test_an_impossible_override_is_a_problem_that_quotes_it(text, message):
    with pytest.raises(RecipeError) as caught:
        override(text)
    assert message in str(caught.value)
    assert f"override {text!r}" in str(caught.value)
