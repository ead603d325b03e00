"""The record of an exporter: a name, a check of the plan, and a pure function from artifact to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mtcore.export.artifact import SourceFiles
from mtcore.plan.plan import Extra, Holds, Plan, holds_nothing


def nothing(*_: object) -> Sequence[str]:
    """The check that finds nothing."""
    return ()


@dataclass(frozen=True)
class Client:
    """A program that reads a dialect; its name stands for the dialect: `mtopt export --to vllm`.

    Attributes:
        name: "vllm".
        why: one line: why this dialect is what the client is given.
        rank: where several dialects suit a client, the lowest rank comes first.
        check: problems that keep the client from running such a plan although the dialect can express it.
        check_source: the same for plan and configuration of the model together; asked where `check` finds nothing.
    """

    name: str
    why: str
    rank: int = 0
    check: Callable[[Plan], Sequence[str]] = nothing
    check_source: Callable[[Plan, SourceFiles], Sequence[str]] = nothing

    def problems(self, plan: Plan, source: SourceFiles | None = None) -> tuple[str, ...]:
        """What keeps the client from running the plan, for a model that came with these files."""
        found = tuple(self.check(plan))
        return found or (() if source is None else tuple(self.check_source(plan, source)))


@dataclass(frozen=True)
class ExporterSpec:
    """One dialect of checkpoint.

    Attributes:
        name: "compressed-tensors".
        summary: one line for listings: what reads it.
        check: problems that would keep this plan from being written, each naming the module and what to do;
            asked before the run starts. Empty if all is well.
        write: writes the files of the artifact into an existing directory. It may assume that `check` found
            nothing, and reads no module. The caller makes the directory visible only when it returned. The
            directory is empty, or holds what an earlier call with the same artifact wrote before it was
            interrupted: a file that can only be there whole may be kept, all others are written anew. Modules and
            tensors of the artifact may come from the disk when they are asked for; one that asks for them one by
            one, and lets go of them, needs no more memory than one. `mtopt plan --to` calls it with tensors on the
            meta device; `mtcore.files.save_tensors` writes those as holes.
        notes: what the dialect folds, drops or writes in another way than the plan says, one line each; asked of
            plans with which `check` found nothing wrong.
        clients: programs that are given this dialect when a user names them.
        shards: whether `write` takes the keyword `max_shard_bytes`.
        check_source: problems that plan and configuration of the model show together, in the words of `check`;
            asked at the same time.
        notes_source: what plan and configuration of the model show together, in the words of `notes`; asked at the
            same time.
        holds: whether the dialect can hold this beside the codes and scales of a module, as it is planned: a
            `pre_quant_scale` (smoothing scales that no fold takes stay on the layer then) or a `low_rank` branch.
            A plan with one that it cannot hold is refused before the run.
    """

    name: str
    summary: str
    check: Callable[[Plan], Sequence[str]]
    write: Callable[..., None]
    notes: Callable[[Plan], Sequence[str]] = nothing
    clients: tuple[Client, ...] = ()
    shards: bool = False
    check_source: Callable[[Plan, SourceFiles], Sequence[str]] = nothing
    notes_source: Callable[[Plan, SourceFiles], Sequence[str]] = nothing
    holds: Holds = holds_nothing

    def problems(self, plan: Plan, source: SourceFiles | None = None) -> tuple[str, ...]:
        """What keeps the plan from being written: what `check` finds, what `holds` denies, and, for a model that
        came with these files, what `check_source` finds."""
        found = (*self.check(plan), *_denied(plan, self))
        return found or (() if source is None else tuple(self.check_source(plan, source)))

    def remarks(self, plan: Plan, source: SourceFiles | None = None) -> tuple[str, ...]:
        """The notes on a plan with which nothing is wrong."""
        return (*self.notes(plan), *(() if source is None else self.notes_source(plan, source)))


_EXTRAS: Mapping[Extra, str] = {
    "pre_quant_scale": "scales of its input that stay on the layer (pre_quant_scale); plan for this dialect",
    "low_rank": "a low-rank branch in 16 bits beside the quantized weight; leave out svdquant",
}


def _denied(plan: Plan, spec: ExporterSpec) -> Iterator[str]:
    """What modules hold beside codes and scales and the dialect cannot, each kind once."""
    for extra, text in _EXTRAS.items():
        names = [m.name for m in plan.quantized if extra in m.extras and not spec.holds(m, extra)]
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield f"{names[0]}{more}: {spec.name} cannot hold {text}"
