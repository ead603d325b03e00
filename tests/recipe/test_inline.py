"""Formats that a recipe defines itself."""

import pytest

from mtcore.formats import builtin_formats
from mtcore.recipe import RecipeSpec
from mtcore.recipe.inline import format_fields

INT4_B96 = {"element": {"kind": "int", "bits": 4}, "scales": [{"element": {"kind": "fp32"}, "block": [1, 96]}]}


def test_a_recipe_can_define_a_format_and_use_it(load):
    config = load({"formats": {"int4_b96": INT4_B96}, "rules": [{"weight": "int4_b96"}]})
    fmt = config.rules[0].setting.format
    assert (fmt.name, str(fmt.element.name), str(fmt.block)) == ("int4_b96", "int4", "1x96")


def test_an_including_recipe_sees_the_formats_of_its_includes(load):
    base = RecipeSpec("base", "", f"formats: {{int4_b96: {INT4_B96}}}".replace("'", '"'))
    config = load({"include": "base", "rules": [{"weight": "int4_b96"}]}, recipes={"base": base})
    assert config.rules[0].setting.format.block.cols == 96


@pytest.mark.parametrize("fmt", list(builtin_formats()), ids=lambda fmt: fmt.name)
def test_every_format_of_the_catalog_can_be_written_and_read(fmt, load):
    config = load({"formats": {"mine": format_fields(fmt)}, "rules": [{"weight": "mine"}]})
    read = config.rules[0].setting.format
    assert (read.element, read.scales, read.zero_point) == (fmt.element, fmt.scales, fmt.zero_point)
    assert (read.target, read.outer_amax_to, read.via) == (fmt.target, fmt.outer_amax_to, fmt.via)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {**INT4_B96, "element": {"kind": "int", "bits": 40}},
            "(formats.f.element.int.bits): input should be less",
        ),
        ({**INT4_B96, "element": {"kind": "complex"}}, "(formats.f.element): "),
        ({**INT4_B96, "scales": []}, "(formats.f.scales): list should have at least 1 item"),
        ({**INT4_B96, "amax": 7}, "(formats.f.amax): unknown key 'amax'. Did you mean 'amax_to'?"),
        ({**INT4_B96, "amax_to": -1}, "(formats.f): format 'f': amax_to is -1.0; it must be positive"),
        ({"scales": INT4_B96["scales"]}, "(formats.f.element): this key is missing"),
        (
            {**INT4_B96, "element": {"kind": "table", "table_name": "t", "table": [1.0, 0.0]}},
            "must ascend strictly",
        ),
        ({**INT4_B96, "scales": [{**INT4_B96["scales"][0], "block": [1, 0]}]}, "extents are ≥ 1 or WHOLE"),
    ],
)
def test_a_format_that_cannot_be_is_a_problem_with_its_place(fields, expected, problems_of):
    (problem,) = problems_of({"formats": {"f": fields}})
    assert expected in problem


def test_a_name_that_is_taken_by_another_format_is_refused(problems_of, load, formats):
    (problem,) = problems_of({"formats": {"fp8": INT4_B96}})
    assert "a format named 'fp8' exists already" in problem
    load({"formats": {"int4_b64": {**format_fields(formats["int4_b64"])}}})
