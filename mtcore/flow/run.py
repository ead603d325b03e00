"""The main job on a checkpoint: load, trace, plan, quantize, export; and its parts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtcore.calibration import CalibrationSummary
from mtcore.calibration.residency import pages_dropped_after_use
from mtcore.calibration.statistics import StatisticsStore
from mtcore.errors import ModelError
from mtcore.export import Exported, Target, UnifiedExporter
from mtcore.flow.asked import Asked
from mtcore.flow.data_options import DataOptions
from mtcore.flow.destinations import Destinations, check_names, noted
from mtcore.flow.estimate import Estimate, estimate
from mtcore.flow.evaluate import Evaluation, perplexity
from mtcore.flow.experts import more_batches
from mtcore.flow.layerwise import LayerwiseOptions, quantize_blocks
from mtcore.flow.loaded import LoadedModel, with_more_inputs
from mtcore.flow.precision import widen_on_cpu
from mtcore.flow.rehearsal import Rehearsal, rehearse
from mtcore.flow.report import Reporter
from mtcore.flow.statistics import open_store
from mtcore.flow.torchrun import is_first, torchrun_ranks
from mtcore.flow.under_way import RunUnderWay
from mtcore.plan import Finding, Plan, plan_to_dict
from mtcore.plugins import Registry
from mtcore.quantization.api import Config, raise_errors
from mtcore.recipe import QuantizeConfig, load_config


@dataclass(frozen=True)
class RunSummary:
    """What one run did: its plan, what it wrote, the bytes of the parameters before, and how long it took.

    `calibration` says what rounding costs each layer.
    """

    plan: Plan
    exported: Exported
    source_bytes: int
    seconds: float
    calibration: CalibrationSummary | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "directory": str(self.exported.directory),
            "files": dict(self.exported.files),
            "size_bytes": self.exported.size_bytes,
            "source_bytes": self.source_bytes,
            "seconds": self.seconds,
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "plan": plan_to_dict(self.plan),
        }


def load_checkpoint(
    source: str, *, registry: Registry | None = None, reporter: Reporter | None = None
) -> LoadedModel:
    """Open a model with the first plugin that knows `source`.

    Raises:
        ModelError: nobody knows it, or it cannot be opened.
    """
    return RunUnderWay.of(registry, reporter, source).load(weights=False)


def plan_checkpoint(
    source: str,
    recipe: Config,
    *,
    dialect: str | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Plan:
    """What `quantize_checkpoint` would do to every module, and why. Writes nothing.

    Args:
        dialect: of the checkpoint to be. It decides what layers may hold beside codes and scales (nothing, where
            it is None). What it cannot express is a finding of level "error"; what it folds or leaves out, a note.

    Raises:
        ModelError, RecipeError: the source or the recipe cannot be understood. Problems of the two together are
            findings of the plan.
    """
    run = RunUnderWay.of(registry, reporter, source, recipe)
    loaded = run.load(weights=False)
    plan = run.plan(loaded, recipe, dialect=dialect)
    if dialect is None:
        return plan
    target = UnifiedExporter(run.registry.exporters).target(plan, dialect, loaded.files)
    problems = tuple(Finding("error", "", problem) for problem in target.problems)
    return replace(plan, findings=(*plan.findings, *problems, *noted([target])))


def plan_for_targets(
    source: str,
    recipe: Config,
    targets: Sequence[str] = (),
    *,
    dialect: str | None = None,
    data: DataOptions | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> tuple[Plan, tuple[Rehearsal, ...], Estimate]:
    """`plan_checkpoint`, what each target would be, whether its client would run it, and what the run will need.

    Nothing is written that stays, and no weight is read: a model without weights will do. Where the plan has errors
    there is nothing to rehearse.

    Args:
        targets: dialects or clients; where there are none, those of the recipe.
        dialect: see `plan_checkpoint`.
        data: how much calibration data there will be.

    Raises:
        UnknownNameError: no such target. ModelError, RecipeError: see `plan_checkpoint`.
    """
    run = RunUnderWay.of(registry, reporter, source, recipe)
    config = load_config(recipe, formats=run.registry.formats, recipes=run.registry.recipes)
    names = tuple(targets) or config.targets
    check_names(names, run.registry.exporters, "" if targets else config.targets_origin)
    loaded = run.load(weights=False)
    plan = run.plan(loaded, config, dialect=dialect)
    with run.phase("rehearse"):
        rehearsals = () if plan.errors else rehearse(loaded, plan, names, run.registry)
        largest = max((rehearsal.size_bytes for rehearsal in rehearsals), default=0)
        return plan, rehearsals, estimate(loaded.model, plan, largest, data)


def quantize_checkpoint(
    source: str,
    recipe: Config,
    out: str | Path,
    *,
    calib: str | Iterable[Any] | None = None,
    dialect: str | None = None,
    data: DataOptions | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
    overwrite: bool = False,
    layerwise: LayerwiseOptions | None = None,
    statistics: str | Path | None = None,
    products: bool = False,
    inputs: Sequence[Path] = (),
) -> RunSummary:
    """Quantize a checkpoint and write it for whom the recipe names, or in a dialect.

    Args:
        source: what the model loaders know: a directory, a GGUF file, a hub id.
        recipe: what to do.
        out: directory to write; it appears whole at the end, or not at all.
        calib: calibration data: a name that the plugins know (a file, a dataset), or an iterable of batches.
            Needed for static activation scales.
        dialect: name of an exporter. Where None, each of the recipe's `targets` has its checkpoint: the only one
            is `out`, several lie in it under their names. A recipe without targets means compressed-tensors.
        data: how much of the calibration data to use.
        layerwise: work block by block, with the weights in their files, and so that the same call goes on where a
            killed one was; None: on the whole model in memory.
        statistics: directory in which what the data told is kept, and read where it is known already. Without
            `calib`, what lies there is all that is known.
        products: keep Σ x xᵀ of what every linear layer reads there too, so that `gptq` (`sequential: none`), the
            clipping of `awq` and `local_hessian` can be decided later; fp32, inputs² elements a value.
        inputs: other files of the caller that `out` must not replace, such as that of a recipe that was read. Those
            that the arguments name are known.

    Under torchrun every process runs its share of the batches, all decide the same, and the first one writes.

    Raises:
        MtcoreError: with one clear message, before the long part wherever that is possible.
    """
    kept = None if statistics is None else Path(statistics)
    asked = Asked(Path(out), calib, dialect, data, overwrite, layerwise, kept, products, source, inputs)
    asked.check_way()
    run = RunUnderWay.of(registry, reporter if is_first() else None, source, recipe, asked.out)
    start = time.perf_counter()
    config, goal = asked.understood(recipe, run.registry)
    loaded = run.load()
    batches = run.batches(calib, loaded, data)
    loaded = with_more_inputs(loaded, batches)
    store = _open_statistics(run, asked, loaded, batches)
    plan, targets = _decide(run, asked, loaded, config, goal, store)
    source_bytes = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
    work = _quantize_whole if layerwise is None else _quantize_blocks
    told = work(run, asked, loaded, plan, targets, batches, store)
    plan = replace(plan, findings=(*plan.findings, *noted(targets.values())))
    return RunSummary(plan, goal.written(), source_bytes, time.perf_counter() - start, told)


def _open_statistics(
    run: RunUnderWay, asked: Asked, loaded: LoadedModel, batches: Sequence[Any]
) -> StatisticsStore | None:
    if asked.statistics is None:
        return None
    with run.phase("open statistics"):
        return open_store(
            asked.statistics,
            loaded.model,
            None if asked.calib is None else batches,
            products=asked.products,
            writes=is_first(),
            let_go=asked.blockwise,
        )


def _decide(
    run: RunUnderWay,
    asked: Asked,
    loaded: LoadedModel,
    config: QuantizeConfig,
    goal: Destinations,
    store: StatisticsStore | None,
) -> tuple[Plan, Mapping[Path, Target]]:
    """A plan without errors, and the target of every directory, which can hold what is planned."""
    exporters = run.registry.exporters
    with pages_dropped_after_use(loaded.model) if asked.blockwise else nullcontext():
        # block by block, each block proves its own
        plan = run.plan(loaded, config, store, prove_folds=not asked.blockwise, dialect=goal.planned_for(exporters))
    raise_errors(plan)
    return plan, goal.targets(plan, UnifiedExporter(exporters), loaded.files)


def _quantize_blocks(
    run: RunUnderWay,
    asked: Asked,
    loaded: LoadedModel,
    plan: Plan,
    targets: Mapping[Path, Target],
    batches: Sequence[Any],
    store: StatisticsStore | None,
) -> CalibrationSummary | None:
    """Work and write block by block."""
    assert asked.layerwise is not None
    return quantize_blocks(
        loaded,
        plan,
        batches,
        asked.out,
        dialect=targets[asked.out].dialect,
        options=asked.layerwise,
        registry=run.registry,
        reporter=run.reporter,
        phase=run.phase,
        overwrite=asked.overwrite,
        store=store,
    )


def _quantize_whole(
    run: RunUnderWay,
    asked: Asked,
    loaded: LoadedModel,
    plan: Plan,
    targets: Mapping[Path, Target],
    batches: Sequence[Any],
    store: StatisticsStore | None,
) -> CalibrationSummary | None:
    """Work in memory, each process on its share of the data; then the first one writes."""
    exporter = UnifiedExporter(run.registry.exporters)
    with torchrun_ranks() as ranks:
        own = batches if ranks is None or asked.calib is None else ranks.share(batches)
        more = None
        if isinstance(asked.calib, str):
            more = more_batches(asked.calib, loaded, asked.data or DataOptions(), batches, run.registry)
        artifact, told = run.quantize_whole(loaded, plan, None if asked.calib is None else own, store, more)
        with run.phase("export"), nullcontext() if ranks is None else ranks.together():
            for place, target in targets.items() if is_first() else ():
                exporter.export(artifact, place, target.dialect, overwrite=asked.overwrite)
    return told


def requantize_checkpoint(
    source: str,
    recipe: Config,
    out: str | Path,
    *,
    statistics: str | Path,
    dialect: str | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
) -> RunSummary:
    """Quantize a checkpoint again, with another recipe, from statistics that `quantize_checkpoint` kept.

    Neither the data nor a trace runs; where the recipe folds scales, the plan proves the folds on example inputs,
    as always. The result is that of quantizing with the data.

    Args:
        statistics: the directory that was given to `quantize_checkpoint`.
        inputs: see there.

    Raises:
        StateError: the directory holds no statistics of these weights.
        CalibrationError: the recipe needs what is not among them, or an algorithm that runs the data itself.
        MtcoreError: as in `quantize_checkpoint`.
    """
    return quantize_checkpoint(
        source,
        recipe,
        out,
        dialect=dialect,
        registry=registry,
        reporter=reporter,
        overwrite=overwrite,
        statistics=statistics,
        inputs=inputs,
    )


def evaluate_checkpoint(
    source: str,
    *,
    text: str,
    data: DataOptions | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Perplexity of a checkpoint on a text; computed in fp32 on a CPU, whatever the checkpoint's dtype.

    Raises:
        ModelError: the source cannot be opened, or is no language model.
        CalibrationError: the text is missing or too short, or the model has no tokenizer.
    """
    run = RunUnderWay.of(registry, reporter, source)
    loaded = run.load()
    if not loaded.predicts_next:
        kind = type(loaded.model).__name__
        raise ModelError(f"{source}: {kind} is no causal language model, and perplexity is of those only")
    widen_on_cpu(loaded.model)
    batches = run.batches(text, loaded, data)
    with run.registry.phase(run.facts, "evaluate"):
        return perplexity(loaded.model, batches, run.reporter)
