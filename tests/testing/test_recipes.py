"""The presets keep the contract of recipes; and the contract finds what is wrong with a bad one."""

from dataclasses import replace

import pytest

import mtcore.builtin
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.recipe import RecipeSpec, builtin_recipes
from mtcore.testing import RecipeContract, ToyModel, toy_batches

OF_LINEAR_LAYERS = ("fp8", "int8_best", "nvfp4", "int4_asym_weight_only", "nf4_weight_only", "mxfp4_mxfp8")


class Nothing:
    @hookimpl
    def mtcore_recipes(self):
        return ()


class TestPresets(RecipeContract):
    @pytest.fixture(params=OF_LINEAR_LAYERS)
    def recipe(self, request):
        return next(spec for spec in builtin_recipes() if spec.name == request.param)

    @pytest.fixture
    def plugin(self):
        return Nothing()


def registry_with(recipe):
    class Plugin:
        @hookimpl
        def mtcore_recipes(self):
            yield recipe

    return Registry.load([Plugin()], discover=False)


def test_a_recipe_that_reaches_nothing_is_found_with_the_reasons():
    recipe = RecipeSpec("mine", "nothing", "rules: [{modules: '*gate', skip: true}]\nmax_unquantized: 1.0")
    with pytest.raises(AssertionError, match="it quantizes no module of the fixture `model`: norm: "):
        RecipeContract().test_the_plan_has_no_errors_and_quantizes_something(
            recipe, registry_with(recipe), ToyModel(), toy_batches()
        )


def test_an_algorithm_that_nobody_has_is_found():
    recipe = RecipeSpec("mine", "no such step", "rules: [{weight: fp8}]\nalgorithm: sigma_clop")
    with pytest.raises(mtcore.errors.MtcoreError, match="sigma_clop"):
        RecipeContract().test_a_model_runs_with_it_and_comes_back(
            recipe, registry_with(recipe), ToyModel(), toy_batches()
        )


def test_a_recipe_that_the_plugin_does_not_yield_is_found():
    recipe = RecipeSpec("mine", "one line", "rules: [{weight: fp8}]")
    assert registry_with(recipe).recipes.get("mine") == recipe
    with pytest.raises(AssertionError, match="lower case"):
        RecipeContract().test_the_name_can_be_typed_and_the_summary_is_one_line(replace(recipe, name="My recipe"))
