"""The algorithm key: a name, a mapping with options, or a list; null for nothing."""

import pytest

from mtcore.errors import RecipeError
from mtcore.recipe import AlgorithmStep
from mtcore.recipe.algorithm import read_algorithm
from mtcore.recipe.document import Document, Problems


@pytest.mark.parametrize(
    ("data", "steps"),
    [
        (None, ()),
        ([], ()),
        ({"method": None}, ()),
        ("max", (AlgorithmStep("max"),)),
        ({"method": "awq_lite", "alpha_step": 0.1}, (AlgorithmStep("awq_lite", {"alpha_step": 0.1}),)),
        (["max", {"method": "gptq"}], (AlgorithmStep("max"), AlgorithmStep("gptq"))),
    ],
)
def test_an_algorithm_is_read_in_all_its_spellings(data, steps):
    problems = Problems()
    assert read_algorithm(data, ("algorithm",), Document("recipe a", {}), problems) == steps
    assert len(problems) == 0


def test_a_step_knows_where_it_was_written():
    (step,) = read_algorithm("max", ("algorithm",), Document("recipe a", {}), Problems())
    assert step.origin == "algorithm of recipe a"


def test_a_colon_without_a_space_is_told():
    problems = Problems()
    assert read_algorithm({"method:gptq": None}, ("algorithm",), Document("recipe a", {}), problems) == ()
    with pytest.raises(RecipeError, match="write a space after the colon: method: gptq"):
        problems.raise_if_any()
