"""Algorithms are looked up and their options validated together, before anything runs."""

import pytest

from mtcore.calibration import resolve_algorithms
from mtcore.calibration.algorithms.max import MAX
from mtcore.errors import RecipeError
from mtcore.plugins import Catalog
from mtcore.recipe.setting import AlgorithmStep


def test_unknown_names_and_bad_options_are_reported_together_with_the_nearest_name():
    steps = [AlgorithmStep("maxx"), AlgorithmStep("max", {"alpha": 1})]
    with pytest.raises(RecipeError) as caught:
        resolve_algorithms(steps, {"max": MAX})
    assert len(caught.value.problems) == 2
    assert "Did you mean 'max'?" in caught.value.problems[0]
    assert "algorithm #2 (max): no option named 'alpha'. Known: four_over_six" in caught.value.problems[1]


def test_an_unknown_algorithm_tells_of_a_plugin_that_failed():
    catalog = Catalog("algorithm", {}, hint="plugin 'awq' failed to load: OSError")
    with pytest.raises(RecipeError, match=r"no algorithm named 'awq'.*plugin 'awq' failed to load"):
        resolve_algorithms((AlgorithmStep("awq"),), catalog)
