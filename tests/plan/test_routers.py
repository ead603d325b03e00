"""A router stays as it is by what it does in the trace, whatever its name, until a rule names it."""

import pytest
import torch

from mtcore.plan import make_plan
from mtcore.plugins import Registry
from mtcore.recipe import load_config, to_dict
from mtcore.trace import analyze
from tests.trace.models import Stack
from tests.trace.test_routers import Listed, Stacked, X

ON = {"modules": "*chooser", "weight": "fp8_row"}


@pytest.fixture(scope="module")
def registry():
    return Registry.load(discover=False)


@pytest.fixture
def load(registry):
    return lambda recipe: load_config(recipe, formats=registry.formats, recipes=registry.recipes)


@pytest.mark.parametrize("mixture", [Listed, Stacked])
def test_it_stays_with_its_reason_in_words_and_its_experts_do_not(mixture, load, specs):
    model = Stack(mixture(), mixture())
    plan = make_plan(model, load("fp8_row"), specs, analyze(model, X))
    left = {module.name: module.reason for module in plan if not module.quantized}
    reason = "left as it is by rule #2 of recipe base_exclusions: it chooses among 4 experts"
    assert {name: left.pop(f"blocks.{i}.chooser") for i, name in enumerate("ab")} == {"a": reason, "b": reason}
    assert not any("parts" in name for name in left)
    assert plan.coverage.unexplained == 0


@pytest.mark.parametrize("rule", [ON, {"role": "router", "weight": "fp8_row"}])
def test_a_later_rule_brings_it_back(rule, load, specs):
    model = Stack(Listed())
    plan = make_plan(model, load({"include": "fp8_row", "rules": [rule]}), specs, analyze(model, X))
    assert plan["blocks.0.chooser"].slot("weight").rule == "rule #1 of the given config"
    assert not plan.errors


def test_without_a_trace_only_names_tell(load, specs):
    model = Stack(Listed())
    model.blocks[0].router = torch.nn.Linear(6, 4)
    plan = make_plan(model, load("fp8_row"), specs)
    assert plan["blocks.0.chooser"].quantized
    assert plan["blocks.0.router"].reason == "left as it is by rule #2 of recipe base_exclusions"


def test_a_rule_for_routers_that_switches_on_must_find_one(load, specs):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    plan = make_plan(model, load({"rules": [{"role": "router", "weight": "fp8"}]}), specs, analyze(model, X))
    assert "'*weight_quantizer' of a router matches no quantizer of this model" in plan.errors[0].message


def test_a_written_recipe_keeps_the_role(load, registry):
    config = load("fp8_row")
    written = to_dict(config, formats=registry.formats)
    assert [rule.role for rule in load(written).rules] == [rule.role for rule in config.rules]
    assert "router" in {rule.role for rule in config.rules}
