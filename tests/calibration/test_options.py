"""Options of algorithms explain themselves, and a wrong one is told with what is allowed."""

import pytest
from pydantic import BaseModel, ConfigDict, Field

from mtcore.calibration import builtin_algorithms, options_help, resolve_algorithms
from mtcore.errors import RecipeError
from mtcore.recipe.setting import AlgorithmStep

CATALOG = {spec.name: spec for spec in builtin_algorithms()}


def problems(method, **options):
    with pytest.raises(RecipeError) as caught:
        resolve_algorithms([AlgorithmStep(method, options)], CATALOG)
    return " ".join(caught.value.problems)


@pytest.mark.parametrize("spec", CATALOG.values(), ids=lambda spec: spec.name)
def test_every_option_of_a_built_in_algorithm_says_what_it_means_and_what_is_allowed(spec):
    assert spec.cost
    for option in options_help(spec.options):
        assert option.meaning, option.name
        assert option.allowed, option.name
        assert option.default, option.name


def test_an_unknown_option_is_told_with_the_nearest_and_all_others():
    told = problems("smoothquant", alfa=0.5)
    assert told == "algorithm #1 (smoothquant): no option named 'alfa'. Did you mean 'alpha'? Known: alpha, size"


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("smoothquant", {"alpha": 1.5}, "option 'alpha' is 1.5: a number, at least 0, at most 1 is allowed"),
        ("gptq", {"order": "act"}, "option 'order' is 'act': given, importance or blocks is allowed"),
        ("percentile", {"percentile": 0}, "option 'percentile' is 0: a number, above 0, at most 100 is allowed"),
        ("mse", {"start": 2}, "start 2.0 must not lie above stop 1.2"),
    ],
)
def test_a_value_out_of_range_is_told_with_the_range(method, options, told):
    assert problems(method, **options).endswith(told)


def test_meanings_come_from_descriptions_and_from_docstrings_of_several_lines():
    class Options(BaseModel):
        """Options of mine.

        a, b: what both
            mean: much.
        c: not this.

        A last word.
        """

        model_config = ConfigDict(extra="forbid")
        a: int = 1
        b: int = 2
        c: float | None = Field(None, description="this")

    assert [(o.name, o.meaning) for o in options_help(Options)] == [
        ("a", "what both mean: much."),
        ("b", "what both mean: much."),
        ("c", "this"),
    ]
    assert options_help(Options)[2].default == "null"


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("awq_full", "Here it is {method: awq, variant: full}"),
        ("nvfp4_act_headroom", "Here it is headroom"),
        ("histogram", "Here it is percentile or entropy"),
        ("QuaRot", "Here it is rotate"),
    ],
)
def test_an_algorithm_that_others_name_otherwise_is_told_by_its_name_here(name, here):
    assert problems(name).endswith(here)
