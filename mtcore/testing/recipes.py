"""RecipeContract: what every named recipe promises."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from mtcore.plugins import Registry
from mtcore.quantization import plan_model, quantize, undo
from mtcore.recipe import RecipeSpec, load_config, to_dict
from mtcore.testing.toy import ToyModel, toy_batches


class RecipeContract:
    """Override the fixtures `recipe` and `plugin` (the module with the hooks); and `model` and `batches` where the
    recipe is for models of another kind than a few linear layers.
    """

    @pytest.fixture
    def recipe(self) -> RecipeSpec:
        raise NotImplementedError("override the fixture `recipe`: the record that is tested")

    @pytest.fixture
    def plugin(self) -> object:
        raise NotImplementedError("override the fixture `plugin`: the module with the hooks")

    @pytest.fixture
    def model(self) -> nn.Module:
        return ToyModel()

    @pytest.fixture
    def batches(self) -> Iterable[Any]:
        return toy_batches()

    @pytest.fixture
    def registry(self, plugin: object, recipe: RecipeSpec) -> Registry:
        registry = Registry.load([plugin], discover=False, strict=True)
        assert registry.recipes.get(recipe.name) == recipe, f"the plugin does not yield the recipe {recipe.name!r}"
        return registry

    def test_the_name_can_be_typed_and_the_summary_is_one_line(self, recipe: RecipeSpec) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_.-]*", recipe.name), f"{recipe.name!r}: lower case, digits, _ . - only"
        assert recipe.summary.strip(), "listings show one line of summary"
        assert "\n" not in recipe.summary, "the summary has several lines"

    def test_it_reads_again_as_it_was_written_out(self, recipe: RecipeSpec, registry: Registry) -> None:
        config = load_config(recipe.name, formats=registry.formats, recipes=registry.recipes)
        written = to_dict(config, formats=registry.formats)
        again = load_config(written, formats=registry.formats, recipes=registry.recipes)
        assert to_dict(again, formats=registry.formats) == written, "read again, it says something else"

    def test_the_plan_has_no_errors_and_quantizes_something(
        self, recipe: RecipeSpec, registry: Registry, model: nn.Module, batches: Iterable[Any]
    ) -> None:
        plan = plan_model(model, recipe.name, inputs=next(iter(batches)), registry=registry)
        assert not plan.errors, f"{plan.errors[0].where}: {plan.errors[0].message}"
        left = "; ".join(f"{module.name}: {module.reason}" for module in plan)
        assert plan.quantized, f"it quantizes no module of the fixture `model`: {left}"

    def test_a_model_runs_with_it_and_comes_back(
        self, recipe: RecipeSpec, registry: Registry, model: nn.Module, batches: Iterable[Any]
    ) -> None:
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        quantized = quantize(model, recipe.name, batches, registry=registry)
        with torch.no_grad():
            output = quantized(next(iter(batches)))
        assert not isinstance(output, torch.Tensor) or bool(output.isfinite().all()), "its outputs are not finite"
        undo(quantized)
        changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
        assert not changed, f"undo leaves {changed[0]} changed"
