"""Registry: everything that can be named in a run, collected from the built-ins and all plugins. Immutable."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from mtcore.errors import CalibrationError, ModelError, PluginError
from mtcore.hookspecs import RECORD_HOOKS
from mtcore.plugins.calls import HookCalls
from mtcore.plugins.catalog import Catalog
from mtcore.plugins.collecting import Records, collect, conflicts, names_of
from mtcore.plugins.finding import FoundPlugins, find_plugins
from mtcore.plugins.local import LOCAL
from mtcore.plugins.phases import PhaseOutcome, RunFacts
from mtcore.plugins.provenance import LoadFailure, Origin, PluginInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mtcore.backends.spec import KernelSpec
    from mtcore.calibration.spec import AlgorithmSpec
    from mtcore.export.spec import ExporterSpec
    from mtcore.flow.data_options import DataOptions
    from mtcore.flow.loaded import LoadedModel
    from mtcore.formats import TensorFormat
    from mtcore.lint.spec import ClientSpec, RuleSpec
    from mtcore.nn.spec import QuantModuleSpec
    from mtcore.opt.spec import SearcherSpec
    from mtcore.recipe.spec import RecipeSpec
    from mtcore.trace import OpRules, SymbolRules, SymbolSpec, SymMap, TraceInputs, TraceReport, TraceRuleSpec


@dataclass(frozen=True)
class Registry:
    """Catalogs by kind, the plugins that filled them, and the hooks that are asked during a run.

    Attributes:
        recipes, formats, quant_modules, symbols, trace_rules, kernels, algorithms, searchers, exporters, clients,
            lint_rules: records by name, read-only.
        plugins: what was loaded, and what each contributes.
        failures: what was not, and why.

    Example:
        >>> Registry.load(discover=False).formats["nvfp4"].bits_per_element
        4.5
    """

    recipes: Catalog[RecipeSpec]
    formats: Catalog[TensorFormat]
    quant_modules: Catalog[QuantModuleSpec]
    symbols: Catalog[SymbolSpec]
    trace_rules: Catalog[TraceRuleSpec]
    kernels: Catalog[KernelSpec]
    algorithms: Catalog[AlgorithmSpec]
    searchers: Catalog[SearcherSpec]
    exporters: Catalog[ExporterSpec]
    clients: Catalog[ClientSpec]
    lint_rules: Catalog[RuleSpec]
    plugins: tuple[PluginInfo, ...]
    failures: tuple[LoadFailure, ...]
    _hint: str = field(repr=False)
    _calls: HookCalls = field(repr=False, compare=False)

    @classmethod
    def load(
        cls,
        extra: Iterable[object] = (),
        *,
        discover: bool = True,
        strict: bool = False,
        only: Collection[str] | None = None,
        exclude: Collection[str] = (),
    ) -> Registry:
        """Build a registry from the built-ins, the installed plugins and `extra`.

        Args:
            extra: modules or objects with hooks.
            discover: whether to look for installed plugins.
            strict: raise if any plugin fails, instead of going on without it.
            only, exclude: names of installed plugins; see `find_plugins`.

        Raises:
            PluginError: two plugins bring one name; or, with `strict`, a plugin failed.
        """
        return cls.of(find_plugins(extra, discover=discover, only=only, exclude=exclude), strict=strict)

    @classmethod
    def of(cls, found: FoundPlugins, *, strict: bool = False) -> Registry:
        """Build a registry from plugins that were found already."""
        collected = collect(found)
        found = found.without(collected.failures)
        problems = conflicts(collected.records)
        if problems:
            raise PluginError("\n".join(problems))
        if strict and found.failures:
            error = PluginError("\n".join(map(str, found.failures)))
            for failure in found.failures:
                error.add_note(failure.traceback)
            raise error
        hint = _hint(found)
        return cls(
            **_catalogs(collected.records, hint),
            plugins=tuple(_with_counts(plugin.info, plugin.hooks, collected.records) for plugin in found.plugins),
            failures=found.failures,
            _hint=hint,
            _calls=HookCalls(found.plugins),
        )

    def load_model(self, source: str) -> LoadedModel:
        """The model that the first plugin that knows `source` makes of it.

        Raises:
            ModelError: no plugin knows it, or the model is broken.
        """
        answer = self._calls.first("mtcore_load_model", source=source)
        if answer is None:
            nobody = self._nobody(f"can load the model {source!r}", "mtcore_load_model")
            there = os.path.exists(os.path.expanduser(source))  # pathlib raises for odd names
            raise ModelError(nobody if there else f"{source}: no such directory or file, and {nobody}")
        loaded, origin = cast("tuple[LoadedModel, Origin]", answer)
        return loaded if loaded.loader else replace(loaded, loader=origin.plugin)

    def example_inputs(self, model: nn.Module) -> TraceInputs | None:
        """Inputs of one small forward from the first plugin that knows the model, or None.

        It can be handed to `mtcore.trace.analyze` as a maker of inputs.
        """
        answer = self._calls.first("mtcore_example_inputs", model=model)
        return None if answer is None else cast("TraceInputs", answer[0])

    def trace_model(self, model: nn.Module, inputs: object = None) -> TraceReport:
        """Run one forward and report what it showed.

        Args:
            inputs: a tensor, a tuple of arguments or a dict of keyword arguments; where None, plugins are asked
                for example inputs, then the core guesses.

        Raises:
            TraceError: no inputs were given and none could be made.
        """
        from mtcore.trace import TraceInputs

        wanted = self.example_inputs(model) if inputs is None else TraceInputs.of(inputs)
        answer = self._calls.first("mtcore_trace_model", model=model, inputs=wanted, rules=self.op_rules())
        assert answer is not None, "the built-in tracer answers for every model"
        return cast("TraceReport", answer[0])

    def op_rules(self) -> OpRules:
        """The rules of operations from the built-ins and all plugins; new, so that it can be changed."""
        from mtcore.trace import OpRules

        return OpRules.of(self.trace_rules.values())

    def symbol_rules(self) -> SymbolRules:
        """The symbols of module types from the built-ins and all plugins; new, so that it can be changed.

        Raises:
            TraceError: two records speak of one type.
        """
        from mtcore.trace import SymbolRules

        return SymbolRules.of(self.symbols.values())

    def analyze_symbols(self, model: nn.Module, inputs: object = None) -> SymMap:
        """The symbols of a model after one forward, with the rules and symbols of all plugins.

        Raises:
            TraceError: no inputs were given and none could be made, or two records speak of one type.
        """
        from mtcore.trace import analyze_symbols

        makers = [self.example_inputs]
        return analyze_symbols(model, inputs, makers=makers, rules=self.op_rules(), symbols=self.symbol_rules())

    def calibration_batches(
        self, source: str, loaded: LoadedModel, options: DataOptions
    ) -> list[dict[str, Tensor]]:
        """Batches from the first plugin that knows these data and this model.

        Raises:
            CalibrationError: no plugin knows them, or the data are too short.
        """
        hook = "mtcore_calibration_batches"
        answer = self._calls.first(hook, source=source, loaded=loaded, options=options)
        if answer is None:
            raise CalibrationError(self._nobody(f"can make batches of {source!r} for {loaded.source!r}", hook))
        return cast("list[dict[str, Tensor]]", answer[0])

    @contextmanager
    def phase(self, run: RunFacts, name: str) -> Iterator[None]:
        """Tell plugins that a phase begins, and that it ended and how."""
        self._calls.observe("mtcore_before_phase", run=run, phase=name)
        start, error = time.perf_counter(), None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            outcome = PhaseOutcome(time.perf_counter() - start, error)
            self._calls.observe("mtcore_after_phase", run=run, phase=name, outcome=outcome)

    def _nobody(self, task: str, hook: str) -> str:
        asked = [origin.plugin for _, origin in self._calls.implementations(hook)]
        who = f"asked: {', '.join(asked)}" if asked else "no plugin for that is installed (mtopt-hf is one)"
        return f"no plugin {task}; {who}" + (f". {self._hint}" if self._hint else "")


def default_registry() -> Registry:
    """The registry of this process: the built-ins, the installed plugins, and what its code registered itself.

    It is loaded when first asked for, and again after something was registered (see `mtcore.plugins.local`).
    """
    return _default_registry(LOCAL.changes)


@lru_cache(maxsize=1)
def _default_registry(changes: int) -> Registry:
    return Registry.load((LOCAL,) if LOCAL else ())


def _hint(found: FoundPlugins) -> str:
    return "; ".join([*map(str, found.failures), *([found.left_out] if found.left_out else [])])


def _catalogs(records: Mapping[Origin, Records], hint: str) -> dict[str, Any]:
    catalogs = {}
    for hook in RECORD_HOOKS.values():
        given = [record for by_hook in records.values() for record in by_hook.get(hook.hook, ())]
        aliases = {alias: record.name for record in given for alias in names_of(hook, record)[1:]}
        by_name = {record.name: record for record in given}
        catalogs[hook.catalog] = Catalog(hook.kind, by_name, aliases=aliases, hint=hint)
    return catalogs


def _with_counts(info: PluginInfo, hooks: Iterable[str], records: Mapping[Origin, Records]) -> PluginInfo:
    given = records[info.origin]
    counts = {hook: len(given[hook]) if hook in given else 1 for hook in hooks}
    return replace(info, contributes=MappingProxyType(counts))
