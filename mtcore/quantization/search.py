"""A search on a model in memory: what each choice costs in each group of layers, for any budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from mtcore.calibration import calibration_mode
from mtcore.calibration.spec import Batches
from mtcore.errors import CalibrationError, look_up
from mtcore.opt import Loss, Scorer, Searcher, Solution, Totals, rest_bits
from mtcore.plugins import Registry, default_registry
from mtcore.quantization.api import Config, trace_model
from mtcore.quantization.choices import Choices, load_choices


@dataclass(frozen=True)
class ModelSearch:
    """A search whose scores are known: `searcher.solve` chooses, `recipe` writes."""

    searcher: Searcher
    choices: Choices
    score: str

    def recipe(self, solution: Solution) -> str:
        """The text of a recipe that does what was chosen."""
        return self.choices.recipe(solution, self.score)


def search_model(
    model: nn.Module,
    choices: Sequence[Config],
    batches: Batches,
    *,
    loss: Loss | None = None,
    score: str = "output_error",
    registry: Registry | None = None,
) -> ModelSearch:
    """Find what each of some recipes costs in each group of layers of a model, which stays as it is.

    Args:
        choices: recipes; each group of layers gets one of them, or stays as it is.
        batches: calibration data.
        loss: for searchers that want gradients ("fisher").
        score: name of a searcher.

    Raises:
        RecipeError, PlanError: the recipes cannot be mixed on this model. CalibrationError: the data are bad.

    Example:
        >>> import torch
        >>> from mtcore.plugins import Registry
        >>> model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16))
        >>> registry = Registry.load(discover=False)
        >>> found = search_model(model, ["nvfp4", "fp8"], [torch.randn(8, 32)], registry=registry)
        >>> found.searcher.solve(bits=7).bits_per_weight <= 7
        True
    """
    registry, data = registry or default_registry(), list(batches)
    if not data:
        raise CalibrationError("the calibration data held no batch (an iterator that was used up already?)")
    spec = look_up("searcher", score, registry.searchers)
    trace = trace_model(model, data[0], registry=registry)
    made = Choices.of(model, load_choices(choices, registry), trace, registry, data[0])
    with calibration_mode(model):
        scorer = Scorer(model, made.twins(model, data), made.decisions, spec, loss)
        totals = Totals()
        for batch in data:
            totals.add(scorer.scores(batch))
    searcher = Searcher(made.decisions, totals.means(made.decisions), rest_bits(model, made.decisions))
    return ModelSearch(searcher, made, score)
