"""The record of an exporter: a name, a check of the plan, and a pure function from artifact to files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtcore.plan.plan import Plan


def nothing(plan: Plan) -> Sequence[str]:
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
    """

    name: str
    why: str
    rank: int = 0
    check: Callable[[Plan], Sequence[str]] = nothing


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
            one, and lets go of them, needs no more memory than one.
        notes: what the dialect folds, drops or writes in another way than the plan says, one line each.
        clients: programs that are given this dialect when a user names them.
        shards: whether `write` takes the keyword `max_shard_bytes`.
    """

    name: str
    summary: str
    check: Callable[[Plan], Sequence[str]]
    write: Callable[..., None]
    notes: Callable[[Plan], Sequence[str]] = nothing
    clients: tuple[Client, ...] = ()
    shards: bool = False
