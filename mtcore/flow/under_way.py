"""A run under way: whom to ask, whom to tell, and the parts that the main jobs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mtcore.calibration import CalibrationSummary, Statistics, as_forward_loop
from mtcore.calibration.run import Resolved
from mtcore.calibration.spec import Progress
from mtcore.calibration.statistics import StatisticsStore
from mtcore.errors import CalibrationError, ModelError, look_up
from mtcore.export import Artifact
from mtcore.flow.data_options import DataOptions
from mtcore.flow.loaded import LoadedModel
from mtcore.flow.precision import restore_dtypes, widen_on_cpu
from mtcore.flow.report import LoggingReporter, Phase, Reporter
from mtcore.flow.statistics import kept_trace, stored_statistics
from mtcore.plan import Finding, Plan, holds_nothing
from mtcore.plugins import Registry, RunFacts, default_registry
from mtcore.quantization import apply_plan, plan_model, to_artifact
from mtcore.quantization.api import Config, trace_model
from mtcore.quantization.attached import quantized_of


@dataclass(frozen=True)
class RunUnderWay:
    """One run under way: whom to ask and whom to tell."""

    registry: Registry
    reporter: Reporter
    facts: RunFacts

    @classmethod
    def of(
        cls,
        registry: Registry | None,
        reporter: Reporter | None,
        source: str,
        recipe: object = "",
        out: Path | None = None,
    ) -> RunUnderWay:
        name = recipe if isinstance(recipe, str) else getattr(recipe, "name", type(recipe).__name__)
        return cls(registry or default_registry(), reporter or LoggingReporter(), RunFacts(source, name, out))

    @contextmanager
    def phase(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Phase]:
        """A phase, told to the reporter and to the plugins."""
        with self.registry.phase(self.facts, name), self.reporter.phase(name, total, unit) as phase:
            yield phase

    @contextmanager
    def _step(self, name: str) -> Iterator[Progress]:
        """A part of the calibration; a phase of its own for the reporter, where it tells how far it is."""
        with self.registry.phase(self.facts, f"calibrate: {name}"), ExitStack() as stack:

            def progress(total: int, unit: str) -> Callable[[int], object]:
                return stack.enter_context(self.reporter.phase(name, total, unit)).advance

            yield progress

    def load(self, *, weights: bool = True) -> LoadedModel:
        """The model; with `weights`, one that has values and not only shapes. Its warnings are told."""
        with self.phase("load"):
            loaded = self.registry.load_model(self.facts.source)
        for warning in loaded.warnings:
            self.reporter.note(f"warning: {warning}")
        if weights and not loaded.has_weights:
            raise ModelError(f"{loaded.source}: it has no weights; it can be planned and traced, and nothing else")
        return loaded

    def batches(
        self, calib: str | Iterable[Any] | None, loaded: LoadedModel, data: DataOptions | None
    ) -> list[Any]:
        """The calibration data in memory; empty where none are given. Samples that are too long are told."""
        if calib is None:
            return []
        given = (
            self.registry.calibration_batches(calib, loaded, data or DataOptions())
            if isinstance(calib, str)
            else calib
        )
        batches: list[Any] = list(given)
        if not batches:
            raise CalibrationError("the calibration data held no batch (an iterator that was used up already?)")
        longest = max(map(_length, batches))
        if loaded.positions is not None and longest > loaded.positions:
            self.reporter.note(
                f"warning: samples have {longest} tokens, but the model was made for {loaded.positions} at once, "
                f"as its configuration says; shorter samples (--length {loaded.positions}) are nearer to its use"
            )
        return batches

    def plan(
        self,
        loaded: LoadedModel,
        recipe: Config,
        store: StatisticsStore | None = None,
        *,
        prove_folds: bool = True,
        dialect: str | None = None,
    ) -> Plan:
        if loaded.quantized_as is not None:
            raise ModelError(
                f"{loaded.source}: it is quantized already ({loaded.quantized_as}); start from the original weights"
            )
        holds = holds_nothing if dialect is None else look_up("dialect", dialect, self.registry.exporters).holds
        with self.phase("plan"):
            inputs = loaded.example_inputs or None
            trace = None
            if store is not None:
                trace = kept_trace(store, lambda: trace_model(loaded.model, inputs, registry=self.registry))
            plan = plan_model(
                loaded.model,
                recipe,
                inputs=inputs,
                registry=self.registry,
                trace=trace,
                prove_folds=prove_folds,
                holds=holds,
            )
        told = tuple(Finding("warning", "load", warning) for warning in loaded.warnings)
        return replace(plan, findings=(*told, *plan.findings))

    def quantize_whole(
        self,
        loaded: LoadedModel,
        plan: Plan,
        batches: Sequence[Any] | None,
        store: StatisticsStore | None,
        more: Iterable[Any] | None = None,
    ) -> tuple[Artifact, CalibrationSummary | None]:
        """Carry the plan out on the model in memory; without data where `batches` is None."""
        dtypes = widen_on_cpu(loaded.model)
        tokens = sum(_tokens(batch) for batch in batches or ())
        with self.phase("calibrate", tokens or None, "tokens") as phase:

            def advance(batch: Any) -> None:
                phase.advance(_tokens(batch))

            def known(model: nn.Module, plan: Plan, steps: Resolved) -> Statistics:
                assert store is not None
                return stored_statistics(model, plan, steps, store, batches, advance)

            loop = as_forward_loop(batches, on_batch=advance) if batches else None
            statistics = None if store is None else known
            model = apply_plan(
                loaded.model,
                plan,
                loop,
                registry=self.registry,
                statistics=statistics,
                summary=True,
                more=more,
                phase=self._step,
            )
        return restore_dtypes(to_artifact(model, loaded.files), dtypes), quantized_of(model).summary


def _ids(batch: Any) -> Tensor | None:
    """The token ids of a batch that has some."""
    ids = batch.get("input_ids") if isinstance(batch, dict) else None
    return ids if isinstance(ids, Tensor) else None


def _tokens(batch: Any) -> int:
    ids = _ids(batch)
    return 0 if ids is None else ids.numel()


def _length(batch: Any) -> int:
    """Tokens of its longest sample; 0 where it has none."""
    ids = _ids(batch)
    return ids.shape[-1] if ids is not None and ids.ndim else 0
