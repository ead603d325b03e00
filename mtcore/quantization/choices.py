"""Choices: the recipes that a search mixes, with their plans for one model and the decisions between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mtcore.calibration import Data
from mtcore.errors import PlanError, RecipeError
from mtcore.opt import AS_IT_IS, Decision, Solution, check_agreement, find_decisions, recipe_text
from mtcore.plan import Plan, without
from mtcore.plugins import Registry
from mtcore.quantization.api import Config, StatisticsOf, plan_model
from mtcore.quantization.twins import quantized_twin
from mtcore.recipe import QuantizeConfig, load_config
from mtcore.trace import TraceReport


def load_choices(
    recipes: Sequence[Config], registry: Registry, overrides: Sequence[str] = ()
) -> dict[str, QuantizeConfig]:
    """The recipes by their names, which tell them apart.

    Raises:
        RecipeError: there is none, two have one name, or one cannot be understood.
    """
    configs: dict[str, QuantizeConfig] = {}
    for recipe in recipes:
        config = load_config(recipe, formats=registry.formats, recipes=registry.recipes, overrides=tuple(overrides))
        if config.name in (*configs, AS_IT_IS):
            raise RecipeError([f"two choices are named {config.name!r}; a search tells them apart by their names"])
        configs[config.name] = config
    if not configs:
        raise RecipeError(["no recipe is named to choose from; name some (--choices nvfp4,fp8)"])
    return configs


@dataclass(frozen=True)
class Choices:
    """What can be chosen for one model.

    Attributes:
        configs, plans: by name of the choice.
        decisions: between the plans, in the order of the model.
        trace: of the model.
    """

    configs: Mapping[str, QuantizeConfig]
    plans: Mapping[str, Plan]
    decisions: tuple[Decision, ...]
    trace: TraceReport
    registry: Registry

    @classmethod
    def of(
        cls,
        model: nn.Module,
        configs: Mapping[str, QuantizeConfig],
        trace: TraceReport,
        registry: Registry,
        inputs: Any = None,
    ) -> Choices:
        """Plan every recipe for the model, whose weights may be on the meta device.

        Raises:
            PlanError: a plan has errors that are not about layers which may do without it; or there is none to do.
            RecipeError: the recipes differ in what is not decided by layer.
        """
        plans = {
            name: plan_model(model, config, inputs=inputs, registry=registry, trace=trace, prove_folds=False)
            for name, config in configs.items()
        }
        decisions = find_decisions(model, plans, registry.quant_modules, trace)
        decided = {name for decision in decisions for name in decision.modules}
        errors = [
            f"{name}: {error.where} {error.message}"
            for name, plan in plans.items()
            for error in plan.errors
            if error.where not in decided
        ]
        if errors or not decisions:
            raise PlanError(errors or [f"{', '.join(plans)}: these recipes quantize no weight of this model"])
        check_agreement(decisions, plans, configs)
        return cls(configs, plans, decisions, trace, registry)

    def twins(
        self, model: nn.Module, data: Data | None, statistics: StatisticsOf | None = None
    ) -> dict[str, nn.Module]:
        """By choice, a copy of the model with its quantizers; see `quantized_twin`."""
        made = {}
        for name, plan in self.plans.items():
            refused = {m for decision in self.decisions if name in decision.refused for m in decision.modules}
            possible = without(plan, refused)
            made[name] = quantized_twin(model, possible, data, registry=self.registry, statistics=statistics)
        return made

    def recipe(self, solution: Solution, by: str, targets: Sequence[str] = ()) -> str:
        """The text of a recipe that does what was chosen.

        Args:
            by: name of the searcher.
            targets: for whom the checkpoints are.
        """
        title = f"{', '.join(self.plans)} mixed at {solution.bits_per_weight:.4g} bits a weight, by {by}"
        formats = self.registry.formats
        return recipe_text(solution, self.plans, self.configs, formats=formats, title=title, targets=targets)
