"""Calibrate: run the steps of a recipe, one algorithm after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ValidationError
from torch import nn

from mtcore.calibration.blocks import BlockInputs
from mtcore.calibration.edits import ParameterEdits
from mtcore.calibration.experts import (
    NOT_COUNTED,
    StarvedExpert,
    expert_needs,
    from_siblings,
    starved_experts,
    starved_lines,
)
from mtcore.calibration.options import option_problems
from mtcore.calibration.quantizers import linear_layers, planned_quantizers
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun, ForwardLoop, Progress, no_progress
from mtcore.calibration.statistics import Needs, Site, Statistics, Wanted, joined
from mtcore.calibration.summary import CalibrationSummary, summarize, summary_needs
from mtcore.calibration.top_up import topped_up
from mtcore.errors import CalibrationError, RecipeError, UnknownNameError, look_up
from mtcore.nn.quant_experts import EXPERT_ROWS
from mtcore.nn.sharded import is_sharded
from mtcore.plan import Plan
from mtcore.recipe.foreign import spelled_here
from mtcore.recipe.setting import AlgorithmStep

LOG = logging.getLogger(__name__)

Resolved = Sequence[tuple[AlgorithmSpec, BaseModel]]
"""Steps of a recipe: algorithms with their validated options."""

StepPhase = Callable[[str], AbstractContextManager[Progress]]
"""From the name of a part of a calibration to what is entered around it, and gives whom to tell of progress."""


def no_phase(name: str) -> AbstractContextManager[Progress]:
    """Nothing is entered, and nobody told."""
    return nullcontext(no_progress)


def find_algorithm(name: str, algorithms: Mapping[str, AlgorithmSpec]) -> AlgorithmSpec:
    """The algorithm of that name.

    Raises:
        UnknownNameError: there is none; for a name that other tools use, the message says what it is here.
    """
    try:
        return look_up("algorithm", name, algorithms)
    except UnknownNameError as error:
        here = spelled_here(name)
        if here is None:
            raise
        hint = f"Here it is {here}" + (f". {error.hint}" if error.hint else "")
        raise UnknownNameError(error.kind, name, error.known, hint) from None


def resolve_algorithms(
    steps: Sequence[AlgorithmStep], algorithms: Mapping[str, AlgorithmSpec]
) -> tuple[tuple[AlgorithmSpec, BaseModel], ...]:
    """Look up every step and validate its options.

    Raises:
        RecipeError: unknown algorithms, bad options, and steps after one that rounds weights, all of them together.
    """
    problems: list[str] = []
    resolved = []
    for number, step in enumerate(steps):
        try:
            spec = find_algorithm(step.method, algorithms)
        except UnknownNameError as error:
            problems.append(str(error))
            continue
        try:
            resolved.append((spec, spec.options.model_validate(dict(step.options))))
        except ValidationError as error:
            found = option_problems(spec.options, error)
            problems += [f"algorithm #{number + 1} ({step.method}): {problem}" for problem in found]
    for (before, _), (spec, _) in pairwise(resolved):
        if before.sequential and not spec.sequential:
            problems.append(
                f"{before.name} rounds weights, and {spec.name} after it would undo that; put it before"
            )
    if problems:
        raise RecipeError(problems)
    return tuple(resolved)


def run_algorithms(
    model: nn.Module,
    plan: Plan,
    resolved: Resolved,
    forward_loop: ForwardLoop | None,
    edits: ParameterEdits | None = None,
    statistics: Statistics | None = None,
    blocks: Sequence[BlockInputs] | None = None,
    *,
    more: Iterable[Any] | None = None,
    phase: StepPhase = no_phase,
    summary: bool = False,
) -> CalibrationSummary | None:
    """Run resolved steps in order on a converted model.

    What all steps want to know is gathered in one run of the data, before the first step.

    Returns:
        What rounding costs, where `summary` asks for it; and the experts that data hardly reached, if any.

    Args:
        edits: where changed parameters are written down; for a caller who wants to put them back.
        statistics: of the model as it is now, with what it takes to gather more; from the loop where None.
        blocks: see `CalibrationRun`.
        more: further batches, for experts that the data hardly reach; see `ExpertsSetting`.
        phase: entered around the gathering of statistics ("statistics") and around every step (its name).
        summary: whether to compare every layer with itself before rounding, and say what it lost.

    Raises:
        CalibrationError: what a driver raises; or a step changes weights that are sharded over processes.
    """
    _refuse_shards(model, resolved)
    edits = ParameterEdits() if edits is None else edits
    first = CalibrationRun(model, plan, forward_loop, edits, statistics, blocks)
    if forward_loop is None:
        return _run_steps(first, resolved, (), phase, summary=summary)
    with topped_up(model, plan, forward_loop, more) as (loop, starved):
        return _run_steps(replace(first, forward_loop=loop), resolved, starved, phase, summary=summary)


def _run_steps(
    first: CalibrationRun,
    resolved: Resolved,
    starved: tuple[StarvedExpert, ...],
    phase: StepPhase,
    *,
    summary: bool,
) -> CalibrationSummary | None:
    model, plan, shared = first.model, first.plan, first.statistics
    if plan.experts.unseen == "siblings":
        shared.substitute = partial(from_siblings, model)
    wanted = wanted_statistics(first, resolved)
    quantizers = dict(planned_quantizers(first))
    welcome = expert_needs(model, (planned.name for planned in plan.quantized))
    welcome |= summary_needs(model, quantizers) if summary else {}
    if wanted or (summary and welcome and first.forward_loop is not None):
        with phase("statistics"):
            shared.need(wanted, welcome)
        unknown = [name for name, slot in welcome if slot == EXPERT_ROWS and (name, slot) not in shared]
        if unknown and first.forward_loop is not None:
            LOG.warning("%s", NOT_COUNTED.format(", ".join(unknown[:3])))
    for number, (spec, options) in enumerate(resolved):
        started = time.perf_counter()
        with phase(spec.name) as progress:
            edits, is_first = first.edits.nested(), number == 0
            spec.run(replace(first, edits=edits, gathered=shared, first=is_first, progress=progress), options)
        LOG.info("%s: done in %.2f s", spec.name, time.perf_counter() - started)
    looked_at = [name for name in linear_layers(model, quantizers) if (name, "input") in {**wanted, **welcome}]
    starved = starved or starved_experts(model, looked_at, shared, plan.experts)
    for line in starved_lines(starved):
        LOG.warning("%s", line)
    if summary:
        told = summarize(model, quantizers, first.edits, shared)
        return replace(told, starved=starved, notes=tuple(first.notes))
    return CalibrationSummary((), starved) if starved else None


def _refuse_shards(model: nn.Module, resolved: Resolved) -> None:
    changing = [spec.name for spec, _ in resolved if spec.folds or spec.sequential or spec.plan is not None]
    if changing and any(is_sharded(parameter) for parameter in model.parameters()):
        raise CalibrationError(
            f"{changing[0]} changes weights, but those of this model are sharded over processes: take an algorithm "
            "that sets scales only, such as max, or calibrate replicas of the model"
        )


def wanted_statistics(run: CalibrationRun, resolved: Resolved) -> dict[Site, Needs]:
    """What the steps together want to know; nothing of those that run the data themselves."""
    return joined(wanted for spec, options in resolved if (wanted := statistics_of(run, spec, options)) is not None)


def statistics_of(run: CalibrationRun, spec: AlgorithmSpec, options: BaseModel) -> Wanted | None:
    """What a step decides from, or None where it runs the data itself."""
    return None if spec.statistics is None else spec.statistics(run, options)
