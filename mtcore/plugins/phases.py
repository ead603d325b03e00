"""Phases of a run, as plugins see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFacts:
    """What a run was asked to do.

    Attributes:
        source: of the model, as the user wrote it.
        recipe: its name.
        out: the directory that will be written, or None where nothing is.
    """

    source: str
    recipe: str
    out: Path | None = None


@dataclass(frozen=True)
class PhaseOutcome:
    """How a phase ended.

    Attributes:
        seconds: wall-clock time.
        error: the exception that ended it, or None if all went well.
    """

    seconds: float
    error: BaseException | None = None
