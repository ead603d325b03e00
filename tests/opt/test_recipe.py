"""The text of a searched recipe plans what was chosen; choices that one recipe cannot mix are refused."""

import pytest
import torch
import yaml
from torch import nn

from mtcore.errors import RecipeError
from mtcore.formats import builtin_formats
from mtcore.opt import AS_IT_IS, Searcher, check_agreement, find_decisions, recipe_text
from mtcore.plan import make_plan
from mtcore.recipe import builtin_recipes, load_config
from mtcore.trace import analyze
from tests.trace.test_routers import Stacked

FORMATS = {name: fmt for fmt in builtin_formats() for name in (fmt.name, *fmt.aliases)}
RECIPES = {recipe.name: recipe for recipe in builtin_recipes()}


def load(config):
    return load_config(config, formats=FORMATS, recipes=RECIPES)


@pytest.fixture
def found(specs):
    """found(model, inputs, choices): decisions, plans and configs by name of the choice."""

    def make(model, inputs, choices):
        trace = analyze(model, inputs)
        configs = {name: load({"name": name, "max_unquantized": 1, **c}) for name, c in choices.items()}
        plans = {name: make_plan(model, config, specs, trace) for name, config in configs.items()}
        return find_decisions(model, plans, specs, trace), plans, configs, trace

    return make


def planned(model, text, specs, trace):
    return make_plan(model, load(yaml.safe_load(text)), specs, trace)


def written(decisions, chosen, plans, configs, **more):
    scores = {d.name: dict.fromkeys(d.bits, 0.5) for d in decisions}
    solution = Searcher(decisions, scores).of(chosen)
    return recipe_text(solution, plans, configs, formats=FORMATS, title="for a test", **more)


def settings(plan, name):
    return [(slot.slot, slot.format, slot.mode, slot.amax) for slot in plan[name].slots]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))


CACHE = {"modules": "0", "k": "fp8", "v": "fp8"}
CHOICES = {
    "four": {"rules": [{"weight": "nvfp4", "input": {"format": "nvfp4", "mode": "dynamic"}}]},
    "eight": {
        "rules": [{"weight": "int8", "input": {"format": "int8", "amax": 4.0}}, {"modules": "2", "skip": True}]
    },
}


def test_every_slot_is_planned_as_in_the_choice(found, specs, model, batch):
    decisions, plans, configs, trace = found(model, batch, CHOICES)
    chosen = ["four", "eight", AS_IT_IS, "eight", "four"]
    plan = planned(model, written(decisions, chosen, plans, configs), specs, trace)
    assert not plan.errors
    for decision, choice in zip(decisions, chosen, strict=True):
        for name in decision.modules:
            assert settings(plan, name) == ([] if choice == AS_IT_IS else settings(plans[choice], name))


def test_stacked_experts_are_planned_as_in_the_choice(found, specs):
    model, tokens = Stacked(), torch.randn(16, 6)
    choices = {
        "one": {"rules": [{"modules": "parts", "weight": "fp8", "input": "fp8"}]},
        "two": {
            "rules": [
                {"quantizers": "parts.wide_weight_quantizer", "set": "int8"},
                {"quantizers": "parts.narrow_weight_quantizer", "set": "fp8"},
            ]
        },
    }
    decisions, plans, configs, trace = found(model, tokens, choices)
    for choice in choices:
        plan = planned(model, written(decisions, [choice], plans, configs), specs, trace)
        assert settings(plan, "parts") == settings(plans[choice], "parts")


def test_formats_that_no_catalog_has_are_written_out(found, specs, model, batch):
    element = {"kind": "float", "exponent_bits": 2, "mantissa_bits": 2}
    five = {"element": element, "scales": [{"element": {"kind": "fp32"}, "block": [1, 16]}]}
    choices = {"five": {"formats": {"fp5": five}, "rules": [{"weight": "fp5"}]}}
    decisions, plans, configs, trace = found(model, batch, choices)
    plan = planned(model, written(decisions, ["five"] * 5, plans, configs), specs, trace)
    assert settings(plan, "2") == settings(plans["five"], "2")


def test_names_with_signs_of_patterns_mean_themselves(found, specs):
    model = nn.Sequential()
    for name in ("a[0]", "a0"):
        model.add_module(name, nn.Linear(16, 16))
    choices = {"eight": {"rules": [{"weight": "int8"}]}}
    decisions, plans, configs, trace = found(model, torch.randn(2, 16), choices)
    plan = planned(model, written(decisions, ["eight", AS_IT_IS], plans, configs), specs, trace)
    assert settings(plan, "a[0]")
    assert not settings(plan, "a0")


def test_the_reason_stands_above_every_rule(found, model, batch):
    decisions, plans, configs, _ = found(model, batch, CHOICES)
    text = written(decisions, ["four"] * 5, plans, configs, targets=["vllm"])
    assert "# 0.{gate,up}: four, 4.52" in text
    assert "summary: for a test" in text
    assert text.endswith("targets:\n- vllm\n")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"algorithm": "mse"}, r"calibrated by other algorithms \(max; mse\).*--set algorithm=max"),
        ({"algorithm": {"method": "max"}, "experts": {"min_tokens": 7}}, "differ in `experts`"),
    ],
)
def test_choices_that_differ_beyond_modules_are_refused(found, model, batch, other, message):
    decisions, plans, configs, _ = found(model, batch, {**CHOICES, "other": {**CHOICES["four"], **other}})
    with pytest.raises(RecipeError, match=message):
        check_agreement(decisions, plans, configs)


@pytest.mark.parametrize("names", [("one", "more"), ("more", "one")])
def test_choices_that_differ_in_what_holds_no_weight_are_refused(found, names):
    """Attention has slots for k and v and no weight; only the plan that gives them a format has it."""
    both = {"one": {"rules": [{"weight": "fp8"}]}, "more": {"rules": [{"weight": "fp8"}, CACHE]}}
    model, inputs = nn.Sequential(Attention()), torch.randn(1, 2, 4, 16)
    decisions, plans, configs, _ = found(model, inputs, {name: both[name] for name in names})
    with pytest.raises(RecipeError, match=rf"{names[0]} and {names[1]} differ in 0, which hold no weights"):
        check_agreement(decisions, plans, configs)


def test_what_all_choices_do_to_attention_is_kept(found, specs):
    model, inputs = nn.Sequential(Attention()), torch.randn(1, 2, 4, 16)
    choices = {name: {"rules": [{"weight": name}, CACHE]} for name in ("fp8", "int8")}
    decisions, plans, configs, trace = found(model, inputs, choices)
    text = written(decisions, ["int8"] * len(decisions), plans, configs)
    kept = settings(planned(model, text, specs, trace), "0")
    assert [slot for slot, *_ in kept] == ["k", "v"]
    assert kept == settings(plans["int8"], "0")


def test_one_name_for_two_formats_is_refused(found, model, batch):
    def choice(mantissa):
        element = {"kind": "float", "exponent_bits": 2, "mantissa_bits": mantissa}
        scale = {"element": {"kind": "fp32"}, "block": [1, 16]}
        return {"formats": {"mine": {"element": element, "scales": [scale]}}, "rules": [{"weight": "mine"}]}

    decisions, plans, configs, _ = found(model, batch, {"one": choice(1), "two": choice(2)})
    with pytest.raises(RecipeError, match="different formats by 'mine'"):
        check_agreement(decisions, plans, configs)
