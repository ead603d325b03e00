"""Trace a checkpoint: what belongs together in it, the proof of that, and why scales are pinned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtcore.errors import ModelError
from mtcore.flow.report import LoggingReporter, Phase, Reporter
from mtcore.flow.run import load_checkpoint
from mtcore.flow.scale_query import ScaleQuery
from mtcore.flow.tensor_inputs import forward_arguments, read_inputs
from mtcore.plugins import Registry, RunFacts, default_registry
from mtcore.trace import Analysis, AxisPin, Proof, TraceReport, proof_steps
from mtcore.trace import verify as prove

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class CheckpointTrace:
    """What one forward of a checkpoint showed.

    Attributes:
        source: what was traced.
        report: the facts; after a verification without what failed it.
        shapes: parameters by name, in the order of the model; a tied one has its first name only.
        proof: None where nothing was verified.
        answers: to the questions that were asked, in their order.
        pins: the axes of the parameters that were to be looked at.
    """

    source: str
    report: TraceReport
    shapes: Shapes
    proof: Proof | None = None
    answers: tuple[AxisPin, ...] = ()
    pins: tuple[AxisPin, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether the forward failed, or a group did not stand its proof."""
        return bool(self.report.failures) or bool(self.proof and self.proof.dropped)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; the report's own keys are among them, and `TraceReport.from_dict` reads them."""
        proof = None if self.proof is None else self.proof.to_dict()
        if proof is not None:
            del proof["report"]  # it is the one beside it
        answers = [asdict(answer) for answer in self.answers]
        return {"source": self.source, **self.report.to_dict(), "proof": proof, "answers": answers}


def trace_checkpoint(
    source: str,
    *,
    inputs: Path | None = None,
    verify: bool = False,
    removals: bool = False,
    explain: Sequence[str] = (),
    look_at: Callable[[TraceReport, Shapes], Collection[str]] | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> CheckpointTrace:
    """Run a checkpoint once and report what belongs together in it.

    Args:
        source: what the model loaders know: a directory, a GGUF file, a hub id.
        inputs: a safetensors file with the tensors of one forward by argument name; where None, the inputs of the
            loader, of a plugin, or a guess.
        verify: also prove the fold groups by random scales, and the searchable channels and blocks by another
            order, in double precision.
        removals: also prove the searchable channels and blocks by removing some; implies `verify`.
        explain: questions of the form PARAMETER[:AXIS[:INDEX]].
        look_at: chooses parameters, by the report, whose axes are explained in `pins`; None explains none.
            Explanations take a second forward.

    Raises:
        ModelError: the source or the inputs cannot be opened. TraceError: a question that the model has no answer
            to, or nobody knows example inputs. A forward that fails is part of the report.
    """
    queries = [ScaleQuery.parse(text) for text in explain]
    tensors = None if inputs is None else read_inputs(inputs)
    registry, reporter = registry or default_registry(), reporter or LoggingReporter()

    @contextmanager
    def phase(name: str, total: int | None = None, unit: str = "") -> Iterator[Phase]:
        """A phase, told to the plugins and to the reporter."""
        with (
            registry.phase(RunFacts(source, recipe=""), name),
            reporter.phase(name, total, unit) as under_way,
        ):
            yield under_way

    loaded = load_checkpoint(source, registry=registry, reporter=reporter)
    model = loaded.model
    if (verify or removals) and not loaded.has_weights:
        raise ModelError(f"{source}: it has no weights, so there is nothing to verify")
    queries = [query.on(model) for query in queries]
    given: Any = loaded.example_inputs or None
    if inputs is not None and tensors is not None:
        given = forward_arguments(loaded, tensors, inputs)
    if given is None:
        given = registry.example_inputs(model)
    with phase("trace"):
        report = registry.trace_model(model, given)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    proof = None
    if (verify or removals) and all(failure.module for failure in report.failures):
        with phase("verify", proof_steps(report, removals=removals), "checks") as under_way:
            proof = prove(model, report, given, removals=removals, advance=under_way.advance)
            report = proof.report
    answers: tuple[AxisPin, ...] = ()
    pins: tuple[AxisPin, ...] = ()
    if queries or look_at is not None:
        with phase("explain"):
            explainer = Analysis(model, given, rules=registry.op_rules()).explainer
            answers = tuple(answer for query in queries for answer in query.ask(explainer))
            pins = tuple(explainer.axes(look_at(report, shapes))) if look_at is not None else ()
    return CheckpointTrace(source, report, shapes, proof, answers, pins)
