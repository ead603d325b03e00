"""The records of linting: a rule, a client, and what a client makes of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mtcore.lint.checkpoint import Checkpoint

Severity = Literal["error", "warning", "note"]
"""`error`: the client refuses the checkpoint or computes wrong numbers. `warning`: it loses accuracy, ignores
something that was written, or has to be told how to load it. `note`: good to know."""

EVERYONE = "*"
"""In place of a client's name: all that are not named."""


@dataclass(frozen=True)
class Hit:
    """One place where a rule is broken.

    Attributes:
        where: tensor, module or file.
        why: what is wrong there and what follows, in one sentence.
        todo: what to do about it.
        clients: only for these; empty for all that the rule concerns.
    """

    where: str
    why: str
    todo: str
    clients: tuple[str, ...] = ()


@dataclass(frozen=True)
class RuleSpec:
    """One thing that can be wrong with a checkpoint.

    Attributes:
        name: "fused-scale-2".
        summary: what must hold, in one line.
        severity: how bad it is, by client; `EVERYONE` for all others. A client that it does not cover is not
            concerned.
        check: the places where it is broken. Reads headers, JSON files and small values, changes nothing, and
            raises for nothing that lies in the directory.
    """

    name: str
    summary: str
    severity: Mapping[str, Severity]
    check: Callable[[Checkpoint], Iterable[Hit]]

    def severity_for(self, client: str) -> Severity | None:
        return self.severity.get(client, self.severity.get(EVERYONE))


@dataclass(frozen=True)
class Reading:
    """What a client makes of a checkpoint.

    Attributes:
        format: what it takes the checkpoint for: "nvfp4 (modelopt)".
        how: with what it will run it, and where: "FP4 kernels from sm_100 on, Marlin before".
    """

    format: str
    how: str


@dataclass(frozen=True)
class ClientSpec:
    """A program that loads checkpoints.

    Attributes:
        name: "vllm"; what `--client` takes and rules name.
        summary: which versions the rules were read from or tried on.
        read: what it would make of a checkpoint; like `RuleSpec.check` it changes nothing and does not raise.
        aliases: further names of it.
    """

    name: str
    summary: str
    read: Callable[[Checkpoint], Reading]
    aliases: tuple[str, ...] = ()
