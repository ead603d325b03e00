"""`mtopt recipes`."""

import json


def test_every_recipe_is_listed_with_its_summary(registry, mtopt):
    shown = mtopt("recipes").out
    for recipe in registry.recipes.values():
        assert recipe.name in shown
        assert recipe.summary in shown


def test_one_recipe_is_shown_with_every_rule_resolved(registry, mtopt):
    shown = mtopt("recipes", "nvfp4").out
    assert "*weight_quantizer" in shown
    assert "nvfp4 (static)" in shown
    assert "nvfp4 (dynamic_blocks)" in shown
    assert "rule #1 of recipe nvfp4" in shown
    assert "calibration: max" in shown


def test_json_tells_formats_modes_and_who_said_so(registry, mtopt):
    recipe = json.loads(mtopt("recipes", "nvfp4", "--json").out)
    weights = recipe["rules"][0]
    assert (weights["format"], weights["mode"], weights["enable"]) == ("nvfp4", "static", True)
    assert weights["origin"] == "rule #1 of recipe nvfp4"


def test_a_file_can_be_shown_too(registry, mtopt, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("rules:\n  - weight: fp8\n")
    assert "fp8 (static)" in mtopt("recipes", path).out


def test_a_misspelt_recipe_is_one_line_with_the_nearest_name(registry, mtopt):
    shown = mtopt("recipes", "nvpf4")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith("error: no recipe named 'nvpf4'. Did you mean 'nvfp4'?")
    assert shown.err.count("\n") == 1
