"""The search of a checkpoint: plans of the choices, scores from data or the disk, a recipe for a budget."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from mtcore.calibration.statistics import StatisticsStore
from mtcore.errors import ModelError, PlanError, RecipeError, look_up
from mtcore.export import UnifiedExporter
from mtcore.flow.data_options import DataOptions
from mtcore.flow.destinations import check_names
from mtcore.flow.layerwise.directory import hash_model, hash_plan
from mtcore.flow.loaded import LoadedModel, with_more_inputs
from mtcore.flow.rehearsal import Rehearsal, rehearse
from mtcore.flow.report import Reporter
from mtcore.flow.scoring import find_scores
from mtcore.flow.served import served
from mtcore.flow.statistics import hash_code, kept_trace, open_store
from mtcore.flow.under_way import RunUnderWay
from mtcore.opt import (
    AS_IT_IS,
    Decision,
    ScoreBook,
    Searcher,
    Solution,
    check_agreement,
    find_decisions,
    model_bits,
    recipe_text,
)
from mtcore.plan import Plan
from mtcore.plugins import Registry
from mtcore.quantization.api import Config, plan_model, raise_errors, trace_model
from mtcore.recipe import QuantizeConfig, load_config
from mtcore.trace import TraceReport


@dataclass(frozen=True)
class CheckpointSearch:
    """A search whose scores are known: any budget can be solved.

    Attributes:
        searcher: the decisions, their scores, and the solver.
        plans, configs: of the choices, by name.
        score: name of the record that judged.
        loaded, trace: the model, as it was loaded, and its trace.
        targets: for whom the checkpoints are; each serves every choice that the decisions have.
    """

    searcher: Searcher
    plans: Mapping[str, Plan]
    configs: Mapping[str, QuantizeConfig]
    score: str
    targets: tuple[str, ...]
    loaded: LoadedModel
    trace: TraceReport
    registry: Registry

    def recipe(self, solution: Solution) -> str:
        """The text of a recipe that does what was chosen."""
        title = f"{', '.join(self.plans)} mixed at {solution.bits_per_weight:.4g} bits a weight, by {self.score}"
        return recipe_text(
            solution,
            self.plans,
            self.configs,
            formats=self.registry.formats,
            title=title,
            targets=self.targets,
        )

    def rehearse(self, solution: Solution) -> tuple[Rehearsal, ...]:
        """What the checkpoint of each target would be, and what its client would make of it; see `Rehearsal`.

        Raises:
            PlanError: the recipe cannot be carried out.
        """
        data = yaml.safe_load(self.recipe(solution))
        plan = plan_model(self.loaded.model, data, registry=self.registry, trace=self.trace, prove_folds=False)
        raise_errors(plan)
        return rehearse(self.loaded, plan, self.targets, self.registry)


def search_checkpoint(
    source: str,
    choices: Sequence[Config],
    *,
    statistics: str | Path,
    calib: str | Iterable[Any] | None = None,
    score: str = "fisher",
    targets: Sequence[str] = (),
    overrides: Sequence[str] = (),
    data: DataOptions | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> CheckpointSearch:
    """Find what each of some recipes costs in each group of layers, so that they can be mixed under a budget.

    Nothing is quantized and no recipe is written: `CheckpointSearch.searcher.solve` chooses, `.recipe` writes.

    Args:
        source: what the model loaders know.
        choices: recipes; each group of layers gets one of them, or stays as it is.
        statistics: directory of what the data told and of the scores, which are kept after every batch. What lies
            there is not found again: the same call after a kill goes on after the last batch, and one with all
            scores runs no data.
        calib: the data. None: those of the directory, where all scores must lie.
        score: name of a searcher.
        targets: dialects or clients: what one of them refuses for a group is no choice there.
        overrides: changes of every recipe, as in `load_config`.

    Raises:
        MtcoreError: with one clear message, before the long part wherever that is possible.
    """
    run = RunUnderWay.of(registry, reporter, source, "search")
    spec = look_up("searcher", score, run.registry.searchers)
    configs = _configs(choices, overrides, run.registry)
    names = tuple(dict.fromkeys(targets))
    check_names(names, run.registry.exporters)
    loaded = run.load()
    if loaded.quantized_as is not None:
        raise ModelError(f"{source}: it is quantized already ({loaded.quantized_as}); start from the original")
    batches = None if calib is None else run.batches(calib, loaded, data)
    loaded = with_more_inputs(loaded, batches or ())
    store = _store(run, Path(statistics), loaded.model, batches)
    trace, plans = _plans(run, loaded, configs, store)
    decisions = _decisions(run, loaded, plans, trace)
    check_agreement(decisions, plans, configs)
    book = ScoreBook.open(store.directory, spec, _hash(plans), store.key)
    if not book.complete:
        find_scores(run, book, loaded, plans, decisions, spec, store, batches)
    means = book.means(decisions)
    if names:
        decisions = served(decisions, plans, names, UnifiedExporter(run.registry.exporters), loaded.files)
    rest = model_bits(loaded.model) - sum(decision.bits[AS_IT_IS] for decision in decisions)
    searcher = Searcher(decisions, means, rest)
    return CheckpointSearch(searcher, plans, configs, score, names, loaded, trace, run.registry)


def _configs(choices: Sequence[Config], overrides: Sequence[str], registry: Registry) -> dict[str, QuantizeConfig]:
    configs: dict[str, QuantizeConfig] = {}
    for choice in choices:
        config = load_config(choice, formats=registry.formats, recipes=registry.recipes, overrides=tuple(overrides))
        if config.name in (*configs, AS_IT_IS):
            raise RecipeError([f"two choices are named {config.name!r}; a search tells them apart by their names"])
        configs[config.name] = config
    if not configs:
        raise RecipeError(["no recipe is named to choose from; name some (--choices nvfp4,fp8)"])
    return configs


def _store(run: RunUnderWay, directory: Path, model: nn.Module, batches: Sequence[Any] | None) -> StatisticsStore:
    with run.phase("open statistics"):
        if batches is not None:
            return open_store(directory, model, batches)
        return StatisticsStore.open(directory, {"weights": hash_model(model, let_go=False), "code": hash_code()})


def _plans(
    run: RunUnderWay, loaded: LoadedModel, configs: Mapping[str, QuantizeConfig], store: StatisticsStore
) -> tuple[TraceReport, dict[str, Plan]]:
    """The trace, and the plan of every choice."""
    with run.phase("plan"):
        inputs = loaded.example_inputs or None
        trace = kept_trace(store, lambda: trace_model(loaded.model, inputs, registry=run.registry))
        assert trace is not None, "the built-in tracer answers for every model"
        plans = {
            name: plan_model(
                loaded.model, config, inputs=inputs, registry=run.registry, trace=trace, prove_folds=False
            )
            for name, config in configs.items()
        }
        return trace, plans


def _decisions(
    run: RunUnderWay, loaded: LoadedModel, plans: Mapping[str, Plan], trace: TraceReport
) -> tuple[Decision, ...]:
    """The decisions between the plans.

    Raises:
        PlanError: a plan has errors that are not about layers which may do without it; or none quantizes anything.
    """
    decisions = find_decisions(loaded.model, plans, run.registry.quant_modules, trace)
    decided = {name for decision in decisions for name in decision.modules}
    errors = [
        f"{name}: {error.where} {error.message}"
        for name, plan in plans.items()
        for error in plan.errors
        if error.where not in decided
    ]
    if errors or not decisions:
        raise PlanError(errors or [f"{', '.join(plans)}: these recipes quantize no weight of this model"])
    return decisions


def _hash(plans: Mapping[str, Plan]) -> str:
    return hashlib.sha256(
        json.dumps([(name, hash_plan(plan)) for name, plan in plans.items()]).encode()
    ).hexdigest()
