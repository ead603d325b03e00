"""The search of a checkpoint: plans of the choices, scores from data or the disk, a recipe for a budget."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from mtcore.calibration.statistics import StatisticsStore
from mtcore.errors import CalibrationError, ExportError, ModelError, look_up
from mtcore.export import UnifiedExporter
from mtcore.flow.data_options import DataOptions
from mtcore.flow.destinations import check_names
from mtcore.flow.hashes import hash_model, hash_plan
from mtcore.flow.loaded import LoadedModel, with_more_inputs
from mtcore.flow.refused import Refusal, find_refusal
from mtcore.flow.rehearsal import Rehearsal, rehearse
from mtcore.flow.report import Reporter
from mtcore.flow.scoring import find_scores
from mtcore.flow.served import served
from mtcore.flow.statistics import hash_gathering, kept_problems, kept_trace, open_store
from mtcore.flow.torchrun import several_processes
from mtcore.flow.under_way import RunUnderWay
from mtcore.opt import ScoreBook, Searcher, Solution, rest_bits
from mtcore.plan import Plan
from mtcore.plugins import Registry
from mtcore.quantization.api import Config, plan_model, raise_errors, trace_model
from mtcore.quantization.choices import Choices, load_choices


@dataclass(frozen=True)
class CheckpointSearch:
    """A search whose scores are known: any budget can be solved.

    Attributes:
        searcher: the decisions, their scores, and the solver.
        choices: the recipes that are mixed, and their plans.
        score: name of the record that judged.
        targets: for whom the checkpoints are; each serves every choice that the searcher's decisions have.
        loaded: the model, as it was loaded.
    """

    searcher: Searcher
    choices: Choices
    score: str
    targets: tuple[str, ...]
    loaded: LoadedModel
    _plans: dict[str, Plan] = field(default_factory=dict, repr=False, compare=False)  # by the text of the recipe

    def recipe(self, solution: Solution) -> str:
        """The text of a recipe that does what was chosen."""
        return self.choices.recipe(solution, self.score, self.targets)

    def rehearse(self, solution: Solution) -> tuple[Rehearsal, ...]:
        """What the checkpoint of each target would be, and what its client would make of it; see `Rehearsal`.

        Raises:
            PlanError: the recipe cannot be carried out.
        """
        plan = self._plan(solution)
        raise_errors(plan)
        return rehearse(self.loaded, plan, self.targets, self.choices.registry)

    def refusals(self, solution: Solution, rehearsals: Iterable[Rehearsal]) -> tuple[Refusal, ...]:
        """Of each target that refuses the solution, as its rehearsal says: which decisions, and what to do."""
        refusing = [rehearsal.target.name for rehearsal in rehearsals if rehearsal.problems]
        if not refusing:
            return ()
        plan, registry = self._plan(solution), self.choices.registry
        single = {choice: self._plan(self.searcher.uniform(choice)) for choice in self.choices.plans}
        return tuple(find_refusal(name, solution, plan, single, self.loaded, registry) for name in refusing)

    def _plan(self, solution: Solution) -> Plan:
        text, choices = self.recipe(solution), self.choices
        if text not in self._plans:
            self._plans[text] = plan_model(
                self.loaded.model,
                yaml.safe_load(text),
                registry=choices.registry,
                trace=choices.trace,
                prove_folds=False,
            )
        return self._plans[text]


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
    if several_processes():
        raise CalibrationError("a search works in one process; start it without torchrun")
    if calib is not None:
        _check_place(Path(statistics))
    run = RunUnderWay.of(registry, reporter, source, "search")
    spec = look_up("searcher", score, run.registry.searchers)
    configs = load_choices(choices, run.registry, overrides)
    names = tuple(dict.fromkeys(targets))
    check_names(names, run.registry.exporters)
    loaded = run.load()
    if loaded.quantized_as is not None:
        raise ModelError(f"{source}: it is quantized already ({loaded.quantized_as}); start from the original")
    if spec.gradients and not loaded.predicts_next:
        kind = type(loaded.model).__name__
        raise ModelError(
            f"{source}: {spec.name} needs a loss, and {kind} is no causal language model; take another searcher "
            "(--score output_error)"
        )
    batches = None if calib is None else run.batches(calib, loaded, data)
    loaded = with_more_inputs(loaded, batches or ())
    store = _store(run, Path(statistics), loaded.model, batches)
    with run.phase("plan"):
        inputs = loaded.example_inputs or None
        trace = kept_trace(store, lambda: trace_model(loaded.model, inputs, registry=run.registry))
        assert trace is not None, "the built-in tracer answers for every model"
        made = Choices.of(loaded.model, configs, trace, run.registry, inputs)
    book = ScoreBook.open(store.directory, spec, _hash(made.plans), store.key)
    if not book.complete:
        find_scores(run, book, loaded, made, spec, store, batches)
    scores, decisions = book.totals.means(made.decisions), made.decisions
    if names:
        decisions = served(decisions, made.plans, names, UnifiedExporter(run.registry.exporters), loaded.files)
    searcher = Searcher(decisions, scores, rest_bits(loaded.model, decisions))
    return CheckpointSearch(searcher, made, score, names, loaded)


def _store(run: RunUnderWay, directory: Path, model: nn.Module, batches: Sequence[Any] | None) -> StatisticsStore:
    with run.phase("open statistics"):
        if batches is not None:
            return open_store(directory, model, batches)
        return StatisticsStore.open(
            directory, {"weights": hash_model(model, let_go=False), "code": hash_gathering()}
        )


def _check_place(statistics: Path) -> None:
    """Raise ExportError where scores and statistics cannot be kept."""
    problems = kept_problems(statistics)
    if problems:
        raise ExportError(problems)


def _hash(plans: Mapping[str, Plan]) -> str:
    return hashlib.sha256(
        json.dumps([(name, hash_plan(plan)) for name, plan in plans.items()]).encode()
    ).hexdigest()
