"""A document knows where every value stands and who said it."""

import pytest

from mtcore.errors import RecipeError
from mtcore.recipe.document import Document, Problems, unknown


def test_a_place_names_the_nearest_known_line_and_the_path():
    doc = Document("mine.yaml", {}, {(): 1, ("rules",): 2, ("rules", 0): 3})
    assert doc.place(("rules", 0, "weight")) == "mine.yaml, line 3 (rules.0.weight)"
    assert doc.place(()) == "mine.yaml, line 1"


def test_a_place_without_text_is_the_path():
    assert Document("the given config", {}).place(("rules", 1)) == "the given config (rules.1)"


def test_an_override_is_the_place_of_what_it_set():
    doc = Document("recipe a", {}, {("x", "y"): 4}, overridden={("x",): "x=1"})
    assert doc.place(("x", "y")) == "recipe a, override 'x=1' (x.y)"


def test_an_origin_names_the_line_of_a_file_and_the_overrides_below_it():
    lines = {("rules", 0): 7}
    assert Document("recipe a", {}, lines).origin("rule #1", ("rules", 0)) == "rule #1 of recipe a"
    doc = Document("a.yaml", {}, lines, overridden={("rules", 0, "weight"): "rules.0.weight=fp8"}, is_file=True)
    assert doc.origin("rule #1", ("rules", 0)) == (
        "rule #1 of a.yaml, line 7, changed by override 'rules.0.weight=fp8'"
    )


def test_problems_are_raised_together_and_each_once():
    problems = Problems()
    problems.raise_if_any()
    for _ in range(2):
        problems.add("here", "one")
        problems.add("", "two")
    with pytest.raises(RecipeError) as caught:
        problems.raise_if_any()
    assert caught.value.problems == ("here: one", "two")


def test_an_unknown_name_without_a_near_one_lists_the_known():
    assert unknown("key", "zzz", ["a", "b"]) == "unknown key 'zzz'. Known: a, b"
