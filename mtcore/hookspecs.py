"""Every extension point of mtcore, in the order in which a run meets them.

A plugin is a module (or any object) whose functions, marked with `hookimpl`, have the names and arguments of the
hooks below; it may leave out arguments that it does not need. An installed plugin is found through an entry point
of the group `mtcore` and states the hook API that it was written for:

    # pyproject.toml                        # mtopt_x/hooks.py
    [project.entry-points.mtcore]           from mtcore.hookspecs import hookimpl
    x = "mtopt_x.hooks"                     MTCORE_HOOK_API = "0.1"

What holds for all hooks:

- Hooks are called at start-up and between the phases of a run, never inside a forward.
- They are called on every rank of a distributed run, with the same arguments, in the same order.
- The module with the hooks is imported by every `mtopt` command. Import heavy libraries inside the functions, or in
  the files that they call.
- `records` hooks take nothing and yield frozen values with a unique `name`. A registry calls each of them once.
  A plugin whose hook raises, or yields a record of another type, gives nothing at all: its other records are left
  out too, and the failure is kept in `Registry.failures`. A name that two plugins bring is an error naming both.
- `first` hooks are asked plugin by plugin until one returns something else than None: first the plugins that were
  handed over in code, then the installed ones by name, then the built-ins. `hookimpl(tryfirst=True)` and
  `hookimpl(trylast=True)` move an implementation to the front or the back. Return None, quickly, for what is not
  yours. An exception ends the run; it is raised as it is, with a note that names the plugin.
- Hook wrappers are refused.

More `records` hooks (observers) come with the rooms that read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

if TYPE_CHECKING:
    import click
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
    from mtcore.plugins.phases import PhaseOutcome, RunFacts
    from mtcore.recipe.spec import RecipeSpec
    from mtcore.trace import OpRules, SymbolSpec, TraceInputs, TraceReport, TraceRuleSpec

HOOK_API = (0, 1)
"""Major and minor version of this page. Plugins written for the two minor versions before it still work."""

hookimpl = pluggy.HookimplMarker("mtcore")
"""Marks a function of a plugin as the implementation of the hook of the same name."""

_hookspec = pluggy.HookspecMarker("mtcore")
_Hook = TypeVar("_Hook", bound=Callable[..., Any])


@dataclass(frozen=True)
class RecordHook:
    """What a registry knows of a `records` hook.

    Attributes:
        hook: its name.
        catalog: the registry's attribute that holds the records.
        kind: one record in words, for messages.
        record: "module:class" of the records, imported only when a plugin yields one.
        aliases: whether a record has a field `aliases`, further names by which it is found.
    """

    hook: str
    catalog: str
    kind: str
    record: str
    aliases: bool = False


RECORD_HOOKS: dict[str, RecordHook] = {}
"""The `records` hooks by name."""

FIRST_RESULTS: dict[str, str] = {}
"""The `first` hooks: name → "module:class" of what they return."""


def _records(catalog: str, kind: str, record: str, *, aliases: bool = False) -> Callable[[_Hook], _Hook]:
    def declare(hook: _Hook) -> _Hook:
        RECORD_HOOKS[hook.__name__] = RecordHook(hook.__name__, catalog, kind, record, aliases)
        return _hookspec(hook)

    return declare


def _first(result: str) -> Callable[[_Hook], _Hook]:
    def declare(hook: _Hook) -> _Hook:
        FIRST_RESULTS[hook.__name__] = result
        return _hookspec(firstresult=True)(hook)

    return declare


@_hookspec
def mtcore_add_commands(cli: click.Group) -> None:
    """Add commands to `mtopt`.

    Called at most once, in the process of a `mtopt` command: when all commands are listed, or when the one that was
    asked for is none of the built-in ones. So `mtopt --help` waits for it. If it raises, or takes the name of a
    command that exists, its commands are left out and the failure is shown.

    Args:
        cli: the click group of `mtopt`.

    Example:
        >>> import click
        >>> from mtcore.plugins import find_plugins
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_add_commands(self, cli):
        ...         cli.add_command(click.Command("hello", callback=lambda: click.echo("hello")))
        >>> cli = click.Group()
        >>> find_plugins([Plugin()], discover=False).add_commands(cli)
        ()
        >>> list(cli.commands)
        ['hello']
    """


@_records("recipes", "recipe", "mtcore.recipe.spec:RecipeSpec")
def mtcore_recipes() -> Iterable[RecipeSpec]:
    """Recipes that a user can name: `--recipe NAME`.

    Called once a registry. The text is YAML; it is read and validated only when somebody asks for the recipe.

    Example:
        >>> from mtcore.plugins import Registry
        >>> from mtcore.recipe import RecipeSpec
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_recipes(self):
        ...         yield RecipeSpec("mine", "all linear layers in INT8", "extends: int8")
        >>> Registry.load([Plugin()], discover=False).recipes["mine"].summary
        'all linear layers in INT8'
    """
    raise NotImplementedError


@_records("formats", "number format", "mtcore.formats:TensorFormat", aliases=True)
def mtcore_formats() -> Iterable[TensorFormat]:
    """Number formats that a recipe can name. Their aliases count as names.

    Called once a registry. `mtcore.numerics` computes every format from its fields alone.

    Example:
        >>> from mtcore.formats import PER_TENSOR, Float32Element, FloatElement, Scale, TensorFormat
        >>> from mtcore.plugins import Registry
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_formats(self):
        ...         yield TensorFormat("fp5", FloatElement(2, 2), (Scale(Float32Element(), PER_TENSOR),))
        >>> Registry.load([Plugin()], discover=False).formats["fp5"].element.max
        7.0
    """
    raise NotImplementedError


@_records("quant_modules", "quantized module", "mtcore.nn.spec:QuantModuleSpec")
def mtcore_quant_modules() -> Iterable[QuantModuleSpec]:
    """Module classes that can be quantized, each with its quantized form. A rule can name them as module type.

    Called once a registry. A module whose class is in no record stays as it is, and the plan says so.

    Example:
        >>> from torch import nn
        >>> from mtcore.nn import QuantModuleSpec
        >>> from mtcore.plugins import Registry
        >>> class Scaled(nn.Linear): ...
        >>> class QuantScaled(Scaled): ...  # a real one is a mtcore QuantModule as well
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_quant_modules(self):
        ...         yield QuantModuleSpec("mine.Scaled", Scaled, QuantScaled)
        >>> Registry.load([Plugin()], discover=False).quant_modules["mine.Scaled"].original is Scaled
        True
    """
    raise NotImplementedError


@_records("symbols", "symbol rule", "mtcore.trace:SymbolSpec")
def mtcore_symbols() -> Iterable[SymbolSpec]:
    """Module classes with the sizes in them that can change, each with the parameter and axis that has it.

    Called once a registry. A module whose class is in no record has no symbols. A subclass takes its base's record
    only while it has the same forward.

    Example:
        >>> from torch import nn
        >>> from mtcore.plugins import Registry
        >>> from mtcore.trace import Symbol, SymbolSpec, SymInfo
        >>> class Scaled(nn.Linear):
        ...     def forward(self, x):
        ...         return super().forward(x) * 0.5
        >>> def symbols(module):
        ...     return SymInfo({"out": Symbol(is_searchable=True, parameter="weight", axis=0)})
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_symbols(self):
        ...         yield SymbolSpec("mine.Scaled", Scaled, symbols)
        >>> registry = Registry.load([Plugin()], discover=False)
        >>> model = nn.Sequential(Scaled(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> [name for name, _ in registry.analyze_symbols(model).named_symbols("searchable")]
        ['0.out']
    """
    raise NotImplementedError


@_records("trace_rules", "trace rule", "mtcore.trace:TraceRuleSpec")
def mtcore_trace_rules() -> Iterable[TraceRuleSpec]:
    """What operations do to the scales and channels of their operands: one record for each operation.

    Called once a registry. The name is that of a dispatched operation without its overload. Where an operation has
    no record, what goes into it keeps its values and channels, and the report counts it in `unknown_ops`.

    Example:
        >>> from mtcore.plugins import Registry
        >>> from mtcore.trace import TraceRuleSpec
        >>> def rule(context, call):
        ...     return context.pointwise(context.get(call.args[0]))
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_trace_rules(self):
        ...         yield TraceRuleSpec("mylib::snake", rule)
        >>> Registry.load([Plugin()], discover=False).op_rules().find("mylib::snake") is not None
        True
    """
    raise NotImplementedError


@_records("kernels", "kernel", "mtcore.backends.spec:KernelSpec")
def mtcore_kernels() -> Iterable[KernelSpec]:
    """Implementations of the operations in `mtcore.backends.OPERATIONS`, for devices and formats of their choice.

    Called once a registry. When a plan is carried out, every record of an operation that it needs is asked whether
    it refuses, and the first of the highest priority that does not is used; why others were not is kept. Codes and
    scales must equal those of `mtcore.numerics` bit for bit: `mtcore.testing.KernelContract` checks it, and
    `CalibrationKernelContract` those that serve a calibration.

    Example:
        >>> from mtcore.backends import FAKE_QUANTIZE, KernelSpec
        >>> from mtcore.plugins import Registry
        >>> def refuses(use):
        ...     return None if use.device.type == "cuda" else "needs a CUDA GPU"
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_kernels(self):
        ...         yield KernelSpec("mine.fake_quantize", "fake_quantize", refuses, FAKE_QUANTIZE.reference)
        >>> Registry.load([Plugin()], discover=False).kernels["mine.fake_quantize"].op
        'fake_quantize'
    """
    raise NotImplementedError


@_records("algorithms", "algorithm", "mtcore.calibration.spec:AlgorithmSpec")
def mtcore_algorithms() -> Iterable[AlgorithmSpec]:
    """Calibration algorithms that a recipe can name.

    Called once a registry. The driver runs in the phase "calibrate", on every rank; if it raises, the model is put
    back as it was.

    Example:
        >>> from pydantic import BaseModel
        >>> from mtcore.calibration import AlgorithmSpec
        >>> from mtcore.plugins import Registry
        >>> def look_only(run, options):
        ...     run.forward_loop(run.model)
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_algorithms(self):
        ...         yield AlgorithmSpec("look", "runs the data", BaseModel, lambda plan: True, look_only)
        >>> Registry.load([Plugin()], discover=False).algorithms["look"].summary
        'runs the data'
    """
    raise NotImplementedError


@_records("searchers", "searcher", "mtcore.opt.spec:SearcherSpec")
def mtcore_searchers() -> Iterable[SearcherSpec]:
    """Ways to judge what quantizing a layer costs: `mtopt search --score NAME`.

    Called once a registry. `score` is called on every batch of the data, for every layer and choice, inside the
    forward or the backward; it returns a tensor on the device of what it was shown, and does not wait for it.

    Example:
        >>> from mtcore.opt import SearcherSpec
        >>> from mtcore.plugins import Registry
        >>> def largest(look):
        ...     return (look.rounded - look.exact).abs().amax()
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_searchers(self):
        ...         yield SearcherSpec("largest", "the largest error of an output", largest)
        >>> Registry.load([Plugin()], discover=False).searchers["largest"].gradients
        False
    """
    raise NotImplementedError


@_records("exporters", "exporter", "mtcore.export.spec:ExporterSpec")
def mtcore_exporters() -> Iterable[ExporterSpec]:
    """Dialects in which a checkpoint can be written: `--dialect NAME`, `mtopt export ARTIFACT --to NAME`.

    Called once a registry. `check` is asked before a run starts, `write` at its end, on rank 0 only.

    Example:
        >>> from mtcore.export import ExporterSpec
        >>> from mtcore.plugins import Registry
        >>> def write(artifact, directory):
        ...     (directory / "recipe.txt").write_text(artifact.plan.recipe)
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_exporters(self):
        ...         yield ExporterSpec("note", "the recipe's name", lambda plan: (), write)
        >>> Registry.load([Plugin()], discover=False).exporters["note"].summary
        "the recipe's name"
    """
    raise NotImplementedError


@_records("clients", "client", "mtcore.lint.spec:ClientSpec", aliases=True)
def mtcore_clients() -> Iterable[ClientSpec]:
    """Programs that load checkpoints: `mtopt lint --client NAME`, `mtopt plan --to NAME`.

    Called once a registry. `read` is asked with a checkpoint that was opened by its headers, and does not raise.

    Example:
        >>> from mtcore.lint import ClientSpec, Reading
        >>> from mtcore.plugins import Registry
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_clients(self):
        ...         yield ClientSpec("mine", "my server 1.0", lambda checkpoint: Reading("plain", "bf16"))
        >>> Registry.load([Plugin()], discover=False).clients["mine"].summary
        'my server 1.0'
    """
    raise NotImplementedError


@_records("lint_rules", "lint rule", "mtcore.lint.spec:RuleSpec")
def mtcore_lint_rules() -> Iterable[RuleSpec]:
    """Rules that a checkpoint must keep so that a client loads it and computes what was meant.

    Called once a registry. A rule reads headers, JSON files and small values, changes nothing and raises nothing;
    it names the clients that it concerns.

    Example:
        >>> from mtcore.lint import Hit, RuleSpec
        >>> from mtcore.plugins import Registry
        >>> def no_embedding(checkpoint):
        ...     if "model.embed_tokens.weight" not in checkpoint.tensors:
        ...         yield Hit("model.embed_tokens", "it is missing, and my server has no default", "write it")
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_lint_rules(self):
        ...         yield RuleSpec("embedding", "there is an embedding", {"mine": "error"}, no_embedding)
        >>> Registry.load([Plugin()], discover=False).lint_rules["embedding"].severity_for("vllm") is None
        True
    """
    raise NotImplementedError


@_hookspec
def mtcore_before_phase(run: RunFacts, phase: str) -> None:
    """A phase of a run begins. An observer: it changes nothing and stops nothing.

    Called for all plugins, once a phase, in the order of the `first` hooks. If it raises, the error is logged with
    its traceback and the name of the plugin, and the run goes on.

    Args:
        run: what the run was asked to do.
        phase: "load", "trace", "verify", "explain", "plan", "rehearse", "calibrate", "score", "export" or
            "evaluate". Inside "calibrate", on a whole model: "calibrate: statistics", and "calibrate: ALGORITHM"
            for every step.

    Example:
        >>> from mtcore.plugins import Registry, RunFacts
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_before_phase(self, run, phase):
        ...         print(phase, run.source)
        >>> registry = Registry.load([Plugin()], discover=False)
        >>> with registry.phase(RunFacts(source="tiny", recipe="fp8"), "calibrate"):
        ...     pass
        calibrate tiny
    """


@_first("mtcore.flow.loaded:LoadedModel")
def mtcore_load_model(source: str) -> LoadedModel | None:
    """Load a model with its tokenizer and files.

    Called once a run. Return None for a source that is not yours, before anything slow; raise `ModelError` for one
    that is yours and broken.

    Args:
        source: a path or a name, as the user wrote it.

    Example:
        >>> from torch import nn
        >>> from mtcore.flow import LoadedModel
        >>> from mtcore.plugins import Registry
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_load_model(self, source):
        ...         return LoadedModel(nn.Linear(4, 4), source) if source.startswith("zoo:") else None
        >>> Registry.load([Plugin()], discover=False).load_model("zoo:linear").model
        Linear(in_features=4, out_features=4, bias=True)
    """


@_first("mtcore.trace:TraceInputs")
def mtcore_example_inputs(model: nn.Module) -> TraceInputs | None:
    """Make inputs of one small forward, for the trace.

    Called once a trace, where neither the user nor the loader gave inputs. Return None for a model that is not
    yours; the core's own guesses come after all plugins.

    Args:
        model: as it was loaded, in eval mode.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mtcore.plugins import Registry
        >>> from mtcore.trace import TraceInputs
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_example_inputs(self, model):
        ...         return TraceInputs((torch.zeros(1, 4),)) if isinstance(model, nn.Linear) else None
        >>> registry = Registry.load([Plugin()], discover=False)
        >>> len(registry.example_inputs(nn.Linear(4, 4)).args), registry.example_inputs(nn.ReLU())
        (1, None)
    """


@_first("mtcore.trace:TraceReport")
def mtcore_trace_model(model: nn.Module, inputs: TraceInputs | None, rules: OpRules) -> TraceReport | None:
    """Run one forward and report what it showed.

    Called once a run, before the plan. The built-in implementation is `mtcore.trace.analyze`; a plugin answers for
    models that cannot simply be called, such as one stage of a pipeline. The model must stay as it was.

    Args:
        model: to be run once.
        inputs: given by the user, the loader or `mtcore_example_inputs`; None where nobody gave any.
        rules: of operations, from all plugins (`mtcore_trace_rules`).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mtcore.plugins import Registry
        >>> Registry.load(discover=False).trace_model(nn.Linear(4, 4), torch.zeros(1, 4)).called[0].kind
        'Linear'
    """


@_first("builtins:list")
def mtcore_calibration_batches(
    source: str, loaded: LoadedModel, options: DataOptions
) -> list[dict[str, Tensor]] | None:
    """Turn calibration or evaluation data into batches for the model.

    Called once a data source, after the model was loaded. Return None for data or models that are not yours; raise
    `CalibrationError` where the data are too short.

    Args:
        source: a path or a name, as the user wrote it.
        loaded: the model, its tokenizer, and the name of the plugin that loaded it.
        options: how much to take, in which pieces.

    Returns:
        Keyword arguments of one forward each, on the CPU.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mtcore.flow import DataOptions
        >>> from mtcore.flow import LoadedModel
        >>> from mtcore.plugins import Registry
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_calibration_batches(self, source, options):
        ...         return [{"input": torch.zeros(options.batch_size, 4)}] if source == "zeros" else None
        >>> registry = Registry.load([Plugin()], discover=False)
        >>> batches = registry.calibration_batches("zeros", LoadedModel(nn.Linear(4, 4), "x"), DataOptions())
        >>> batches[0]["input"].shape
        torch.Size([4, 4])
    """


@_hookspec
def mtcore_after_phase(run: RunFacts, phase: str, outcome: PhaseOutcome) -> None:
    """A phase of a run has ended, well or with an exception. An observer: it changes nothing and stops nothing.

    Called for all plugins, once a phase, also after Ctrl-C. If it raises, see `mtcore_before_phase`.

    Args:
        run, phase: as in `mtcore_before_phase`.
        outcome: how long it took, and the exception that ended it, if any.

    Example:
        >>> from mtcore.plugins import Registry, RunFacts
        >>> class Plugin:
        ...     @hookimpl
        ...     def mtcore_after_phase(self, phase, outcome):
        ...         print(phase, "failed" if outcome.error else "done")
        >>> registry = Registry.load([Plugin()], discover=False)
        >>> with registry.phase(RunFacts(source="tiny", recipe="fp8"), "calibrate"):
        ...     pass
        calibrate done
    """
