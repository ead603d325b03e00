"""The page on recipes tells the truth: its recipes load, and its tables hold what the code holds."""

import re
from pathlib import Path

import pytest
import yaml

from mtcore.recipe import builtin_recipes
from mtcore.recipe.foreign.attributes import NO_EFFECT, ONLY_DEFAULT, Attributes
from mtcore.recipe.grammar import IncludeRule, ModuleRule, QuantizerRule, RecipeModel, TogetherRule

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "recipes.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
OVERRIDES = re.findall(r"^\| `([a-z_]+[.=].*?)` \|", PAGE, re.MULTILINE)
FOREIGN = re.findall(r"^\| `(num_bits: .*?)` \| `(\w+)` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("text", RECIPES)
def test_every_recipe_on_the_page_loads(text, load):
    assert load(yaml.safe_load(text)).rules


def test_every_override_on_the_page_applies(load):
    assert len(OVERRIDES) == 6
    load("nvfp4", *OVERRIDES)


@pytest.mark.parametrize(("attributes", "name"), FOREIGN)
def test_every_translation_on_the_page_is_made(attributes, name, load, decide):
    config = load({"quant_cfg": {"*weight_quantizer": yaml.safe_load(f"{{{attributes}}}")}})
    assert decide(config, "a", "weight").format.name == name


def test_the_page_names_every_preset_with_its_summary():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.partition("## Presets")[2], re.MULTILINE)
    for spec in builtin_recipes():
        assert (spec.name, spec.summary) in rows


@pytest.mark.parametrize("model", [RecipeModel, ModuleRule, QuantizerRule, IncludeRule, TogetherRule, Attributes])
def test_the_page_names_every_key(model):
    for key in model.model_fields:
        assert re.search(rf"[`\s]{key}[`:\s]", PAGE), key


def test_the_page_gives_every_attribute_the_treatment_of_the_code():
    rows = dict(
        re.findall(r"^\| (`.*`) \| (honoured|accepted; no effect|accepted at their default)", PAGE, re.MULTILINE)
    )
    treatments = {text: {name.strip("` ") for name in names.split(",")} for names, text in rows.items()}
    assert treatments["accepted; no effect"] == set(NO_EFFECT)
    assert treatments["accepted at their default"] == set(ONLY_DEFAULT)
    assert treatments["honoured"] == set(Attributes.model_fields) - set(NO_EFFECT) - set(ONLY_DEFAULT)
