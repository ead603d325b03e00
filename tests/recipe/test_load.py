"""Loading finds the text by name or path, or takes what it is given."""

import subprocess
import sys

import pytest

from mtcore.errors import RecipeError


def test_a_resolved_configuration_is_given_back_as_it_is(load):
    config = load("fp8")
    assert load(config) is config
    with pytest.raises(RecipeError, match="overrides change a recipe's text"):
        load(config, "max_unquantized=1")


def test_an_unknown_recipe_offers_the_nearest_name(problems_of):
    (problem,) = problems_of("nvpf4")
    assert problem.startswith("no recipe named 'nvpf4'. Did you mean 'nvfp4'? Known: base_exclusions, fp8,")


def test_hyphens_in_a_name_do_for_underscores(load):
    assert load("nvfp4-weight-only").rules == load("nvfp4_weight_only").rules


def test_a_file_is_read_and_its_lines_are_in_origins(load, tmp_path):
    path = tmp_path / "w4a4.yaml"
    path.write_text("summary: Mine\nrules:\n  - weight: nvfp4\n  - modules: '*head'\n    skip: true\n")
    config = load(path)
    assert (config.name, config.summary) == ("w4a4.yaml", "Mine")
    assert [rule.origin for rule in config.rules] == [
        "rule #1 of w4a4.yaml, line 3",
        "rule #2 of w4a4.yaml, line 4",
    ]
    assert load(str(path)).rules == config.rules


def test_problems_in_a_file_carry_their_line(problems_of, tmp_path):
    path = tmp_path / "w4a4.yaml"
    path.write_text("rules:\n  - weight: nvfp4\n    input:\n      format: nvpf4\n")
    (problem,) = problems_of(path)
    assert problem.startswith("w4a4.yaml, line 4 (rules.0.input.format): no format named 'nvpf4'")


def test_a_file_includes_others_relative_to_itself(load, problems_of, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "main.yaml").write_text("include: parts/base.yaml")
    (tmp_path / "parts" / "base.yaml").write_text("include: more.yaml")
    (tmp_path / "parts" / "more.yaml").write_text("rules: [{weight: fp8}]")
    assert [rule.origin for rule in load(tmp_path / "main.yaml").rules] == ["rule #1 of more.yaml, line 1"]
    (tmp_path / "parts" / "more.yaml").write_text("include: ../main.yaml")
    (problem,) = problems_of(tmp_path / "main.yaml")
    assert "a circle: " in problem


def test_a_name_can_be_given_in_the_text(load):
    assert load({"name": "mine", "rules": []}).name == "mine"
    assert load({}).name == "the given config"


def test_overrides_change_the_source_and_are_in_the_origin(load, decide):
    config = load("nvfp4", "rules.0.weight=fp8", "algorithm.method=mse", "max_unquantized=1.0")
    assert decide(config, "a", "weight").format.name == "fp8"
    assert config.rules[0].origin == "rule #1 of recipe nvfp4, changed by override 'rules.0.weight=fp8'"
    assert config.algorithm[0].method == "mse"
    assert config.guard_origin.endswith("changed by override 'max_unquantized=1.0'")


def test_problems_of_overrides_and_of_the_recipe_come_together(problems_of):
    problems = problems_of("nvfp4", "rules.7.weight=fp8", "rules.0.weight=fp9")
    assert len(problems) == 2
    assert problems[1].startswith("recipe nvfp4, override 'rules.0.weight=fp9' (rules.0.weight.format): no format")


@pytest.mark.parametrize("source", [3, None, ["fp8"]])
def test_a_source_of_another_type_is_a_problem(source, problems_of):
    (problem,) = problems_of(source)
    assert "a recipe is a name, a path, a mapping or a QuantizeConfig" in problem


def test_recipes_import_no_torch():
    code = "import sys, mtcore.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_values_of_recipes_cost_neither_pydantic_nor_yaml():
    code = "import sys, mtcore.recipe; sys.exit(bool({'pydantic', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
