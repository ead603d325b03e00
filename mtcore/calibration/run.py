"""Calibrate: run the steps of a recipe, one algorithm after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError
from torch import nn

from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun, ForwardLoop
from mtcore.errors import RecipeError, UnknownNameError, look_up
from mtcore.plan import Plan
from mtcore.recipe.setting import AlgorithmStep


def resolve_algorithms(
    steps: Sequence[AlgorithmStep], algorithms: Mapping[str, AlgorithmSpec]
) -> tuple[tuple[AlgorithmSpec, BaseModel], ...]:
    """Look up every step and validate its options.

    Raises:
        RecipeError: unknown algorithms and bad options, all of them together.
    """
    problems: list[str] = []
    resolved = []
    for number, step in enumerate(steps):
        try:
            spec = look_up("algorithm", step.method, algorithms)
        except UnknownNameError as error:
            problems.append(str(error))
            continue
        try:
            resolved.append((spec, spec.options.model_validate(dict(step.options))))
        except ValidationError as error:
            for item in error.errors():
                place = ".".join(map(str, item["loc"]))
                problems.append(f"algorithm #{number + 1} ({step.method}): option {place!r}: {item['msg']}")
    if problems:
        raise RecipeError(problems)
    return tuple(resolved)


def run_algorithms(
    model: nn.Module,
    plan: Plan,
    resolved: Sequence[tuple[AlgorithmSpec, BaseModel]],
    forward_loop: ForwardLoop | None,
    edits: ParameterEdits | None = None,
) -> None:
    """Run resolved steps in order on a converted model.

    Args:
        edits: where changed parameters are written down; for a caller who wants to put them back.
    """
    edits = ParameterEdits() if edits is None else edits
    for spec, options in resolved:
        spec.run(CalibrationRun(model, plan, forward_loop, edits.nested()), options)
