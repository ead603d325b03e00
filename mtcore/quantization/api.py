"""quantize, calibrate, plan and undo on a model in memory: the facade over the rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtcore.backends import offered
from mtcore.calibration import Data, Statistics, as_forward_loop, resolve_algorithms, run_algorithms
from mtcore.calibration.run import Resolved, StepPhase, no_phase
from mtcore.errors import PlanError, TraceError, look_up
from mtcore.export import Artifact, SourceFiles
from mtcore.nn import QuantizerState
from mtcore.plan import Holds, Plan, folded, holds_nothing, make_plan
from mtcore.plugins import Registry, default_registry
from mtcore.quantization.attached import Quantized, attach, detach, is_quantized, quantized_of, refuse_quantized
from mtcore.quantization.collect import collect_artifact
from mtcore.quantization.convert import convert
from mtcore.quantization.kernels import assign_kernels
from mtcore.quantization.proven import with_proven_folds
from mtcore.quantization.state import load_state, save_state
from mtcore.quantization.steps import with_steps
from mtcore.recipe import load_config
from mtcore.recipe.setting import QuantizeConfig
from mtcore.trace import TraceReport

Config = str | Path | Mapping[str, Any] | QuantizeConfig
"""A recipe name, the path of a recipe, a configuration dict (ours or Model-Optimizer's), or a resolved config."""


def quantize(
    model: nn.Module,
    config: Config,
    forward_loop: Data | None = None,
    *,
    inputs: Any = None,
    registry: Registry | None = None,
    undoable: bool = True,
    target: str | None = None,
    summary: bool = False,
) -> nn.Module:
    """Quantize a model in place: trace, plan, convert, calibrate.

    Args:
        model: changed in place and returned; a root that is itself a quantizable layer cannot be, and its
            quantized twin is returned instead. Its parameters stay the same objects.
        config: what to do.
        forward_loop: calibration data: a function of the model that runs it, or an iterable of batches. Needed
            where the plan has activations with static scales.
        inputs: one example input for the trace, as a batch; made from the data or the model where None.
        registry: plugins to use; the discovered ones where None.
        undoable: keep the values of weights that calibration changes (scales folded into them, say), for `undo` and
            for a failure; False saves their memory, and leaves the layers to `undo` but not those values.
        target: the dialect in which the result will be exported, where one is known: it decides what layers may
            hold beside codes and scales.
        summary: compare every layer with itself before rounding; `summary_of(model)` says what it lost.

    Raises:
        StateError: the model is quantized already, or compressed.
        RecipeError, PlanError: before anything changes, all problems together.
        CalibrationError: the data is missing or bad. The model is put back as it was.

    Example:
        >>> from torch import nn, randn
        >>> model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> model = quantize(model, {"quant_cfg": {"*weight_quantizer": {"num_bits": 8}}, "algorithm": "max"})
        >>> type(model[0]).__name__
        'QuantLinear'
    """
    refuse_quantized(model)
    registry = registry or default_registry()
    example = _example_of(forward_loop) if inputs is None else inputs
    holds = holds_nothing if target is None else look_up("dialect", target, registry.exporters).holds
    plan = plan_model(model, config, inputs=example, registry=registry, holds=holds)
    return apply_plan(model, plan, forward_loop, registry=registry, undoable=undoable, summary=summary)


StatisticsOf = Callable[[nn.Module, Plan, Resolved], Statistics]
"""From a converted model, its plan and the steps of the recipe to what is known of its values."""


def apply_plan(
    model: nn.Module,
    plan: Plan,
    forward_loop: Data | None = None,
    *,
    registry: Registry | None = None,
    statistics: StatisticsOf | None = None,
    undoable: bool = True,
    summary: bool = False,
    more: Iterable[Any] | None = None,
    phase: StepPhase = no_phase,
) -> nn.Module:
    """Carry a plan out: convert and calibrate. Arguments, result and errors as in `quantize`.

    Args:
        statistics: where they come from, if not from the data alone.
        summary: compare every layer with itself before rounding; `summary_of(model)` says what it lost.
        more: further batches of the same source, for experts that the data hardly reach.
        phase: entered around the gathering of statistics ("statistics") and around every step (its name).

    Raises:
        PlanError: the plan has findings of level "error", or was made for another model.
    """
    registry = registry or default_registry()
    raise_errors(plan)
    steps = resolve_algorithms(plan.algorithm, registry.algorithms)
    plan = with_proven_folds(plan, model, registry, _example_of(forward_loop))
    loop = None if forward_loop is None else as_forward_loop(forward_loop)
    root, journal = convert(model, plan, registry.quant_modules)
    journal.parameters.keep = undoable
    try:
        kernels = assign_kernels(root, registry.kernels)
        known = None if statistics is None else statistics(root, plan, steps)
        with offered(registry.kernels.values()):
            told = run_algorithms(
                root, plan, steps, loop, journal.parameters, known, more=more, phase=phase, summary=summary
            )
    except BaseException:
        journal.undo()
        raise
    attach(root, Quantized(plan, journal, kernels, told))
    return root


def raise_errors(plan: Plan) -> None:
    """Raise the plan's findings of level "error", all together.

    Raises:
        PlanError: there are some.
    """
    if plan.errors:
        found = folded((finding.where, finding.message) for finding in plan.errors)
        raise PlanError([f"{where}: {message}" for where, message in found])


def plan_model(
    model: nn.Module,
    config: Config,
    *,
    inputs: Any = None,
    registry: Registry | None = None,
    trace: TraceReport | None = None,
    prove_folds: bool = True,
    holds: Holds = holds_nothing,
) -> Plan:
    """What `quantize` would do. Problems are findings of the plan, not exceptions.

    The model stays as it is; where the algorithm folds, its weights are scaled and put back, see
    `mtcore.trace.wrong_folds`.

    Args:
        trace: of this model; where None, one is made.
        prove_folds: False leaves that to whoever carries the plan out.
        holds: what the target can hold beside codes and scales: `ExporterSpec.holds` of a dialect.

    Raises:
        RecipeError: the configuration cannot be understood, or an option of its algorithms.
        TraceError: `inputs` were given and the model fails on them.
    """
    registry = registry or default_registry()
    request = _load(config, registry)
    report, untraced = trace, ""
    try:
        report = trace or trace_model(model, inputs, registry=registry)
    except TraceError as error:
        if inputs is not None:
            raise
        untraced = str(error)
    plan = make_plan(model, request, registry.quant_modules, report, untraced)
    plan = with_proven_folds(plan, model, registry, inputs) if prove_folds else plan
    return with_steps(plan, registry, holds)


def trace_model(model: nn.Module, inputs: Any = None, *, registry: Registry | None = None) -> TraceReport:
    """The facts that planning needs, from one forward.

    Raises:
        TraceError: no example input could be made, or the model fails on it.
    """
    report = (registry or default_registry()).trace_model(model, inputs)
    failed = next((failure.message for failure in report.failures if failure.module == ""), None)
    if failed is not None:
        raise TraceError(f"the model fails on the example inputs: {failed}")
    return report


def calibrate(
    model: nn.Module,
    algorithm: str | Mapping[str, Any] | Iterable[Any] | None = "max",
    forward_loop: Data | None = None,
    *,
    registry: Registry | None = None,
) -> nn.Module:
    """Calibrate a quantized model again, with another algorithm or other data; returns the model.

    Args:
        model: made by `quantize`.
        algorithm: as in a recipe: a name, `{"method": …, options}`, or a list of these.
        forward_loop: as in `quantize`.

    Raises:
        StateError: the model was not quantized. RecipeError, CalibrationError: as in `quantize`.
    """
    registry = registry or default_registry()
    quantized = quantized_of(model)
    config = _load({"rules": [], "algorithm": algorithm}, registry)
    steps = resolve_algorithms(config.algorithm, registry.algorithms)
    loop = None if forward_loop is None else as_forward_loop(forward_loop)
    plan = with_proven_folds(quantized.plan, model, registry, _example_of(forward_loop), config.algorithm)
    attach(model, replace(quantized, plan=plan))
    edits = quantized.journal.parameters
    edits.undo()  # what an earlier calibration wrote into the weights is not the original
    for name in (planned.name for planned in plan.quantized if planned.pre_quant_scale):
        for module in model.get_submodule(name).children():
            if isinstance(module, QuantizerState):
                module.set_pre_quant_scale(None)
    with offered(registry.kernels.values()):
        run_algorithms(model, plan, steps, loop, edits)
    return model


def save(model: nn.Module, directory: str | Path, *, overwrite: bool = False) -> None:
    """Write a quantized model's state, without pickle; see `mtcore.quantization.state`.

    Raises:
        StateError: the model is not quantized. ExportError: the directory cannot be written.
    """
    save_state(model, directory, overwrite=overwrite)


def load(
    directory: str | Path,
    model: nn.Module,
    *,
    device: torch.device | str | None = None,
    registry: Registry | None = None,
) -> nn.Module:
    """Restore what `save` wrote onto a fresh model, which may be on the meta device; returns the model.

    Raises:
        StateError: the files are missing or damaged, or do not fit the model, which is as it was then.
    """
    registry = registry or default_registry()
    root = load_state(directory, model, registry.quant_modules, device=device)
    attach(root, replace(quantized_of(root), kernels=assign_kernels(root, registry.kernels)))
    return root


def undo(model: nn.Module) -> nn.Module:
    """Put the original layers back: the same objects, so the same outputs bit for bit. Returns the model."""
    quantized_of(model).journal.undo()
    detach(model)
    return model


def to_artifact(model: nn.Module, source: SourceFiles | None = None) -> Artifact:
    """Codes, scales and remaining tensors of a quantized model, for an exporter."""
    return collect_artifact(model, quantized_of(model).plan, source)


def _load(config: Config, registry: Registry) -> QuantizeConfig:
    return load_config(config, formats=registry.formats, recipes=registry.recipes)


def _example_of(data: Data | None) -> Any:
    """The first batch of data that can be iterated again; None for functions and one-shot iterators."""
    if data is None or callable(data) or isinstance(data, Iterator) or not isinstance(data, Iterable):
        return None
    return next(iter(data), None)


__all__ = [
    "Config",
    "apply_plan",
    "calibrate",
    "is_quantized",
    "load",
    "plan_model",
    "quantize",
    "raise_errors",
    "save",
    "to_artifact",
    "trace_model",
    "undo",
]
