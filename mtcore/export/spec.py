"""The record of an exporter: a name, a check of the plan, and a pure function from artifact to files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtcore.export.artifact import Artifact
from mtcore.plan.plan import Plan


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
    """

    name: str
    summary: str
    check: Callable[[Plan], Sequence[str]]
    write: Callable[[Artifact, Path], None]
