"""The one exception tree: every error that a user can cause says what, where, why and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

Record = TypeVar("Record")


class MtcoreError(Exception):
    """Base of every error that mtcore raises on purpose; the CLI shows it as one clear line."""


class UnknownNameError(MtcoreError, KeyError):
    """A name that is in no catalog. The message offers the nearest known names.

    Example:
        >>> str(UnknownNameError("format", "nvpf4", ["fp8", "nvfp4"]))
        "no format named 'nvpf4'. Did you mean 'nvfp4'? Known: fp8, nvfp4"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        self.hint = hint
        super().__init__(kind, name)

    def __str__(self) -> str:
        near = difflib.get_close_matches(self.name, self.known, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        known = f" Known: {', '.join(self.known)}" if self.known else f" No {self.kind} is registered"
        hint = f". {self.hint}" if self.hint else ""
        return f"no {self.kind} named {self.name!r}.{guess}{known}{hint}"


def first_of(names: Sequence[str], most: int = 3) -> str:
    """The first few names in a sentence, and how many more there are.

    Example:
        >>> first_of(["a", "b", "c", "d"]), first_of(["a"])
        ('a, b, c and 1 more', 'a')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def look_up(kind: str, name: str, records: Mapping[str, Record]) -> Record:
    """The record of that name.

    Args:
        kind: what is looked for, for the message.
        records: by name. A catalog of a registry knows aliases as well, and which plugins failed to load; both go
            into the message.

    Raises:
        UnknownNameError: there is none.

    Example:
        >>> look_up("number", "two", {"one": 1, "two": 2})
        2
    """
    try:
        return records[name]
    except UnknownNameError as error:
        raise UnknownNameError(kind, name, error.known, error.hint) from None
    except KeyError:
        raise UnknownNameError(kind, name, records) from None


class ProblemsError(MtcoreError):
    """Several problems found together, so that a user mends them in one go."""

    headline = "found"

    def __init__(self, problems: Sequence[str]) -> None:
        assert problems, "an error without a problem"
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{len(self.problems)} problems {self.headline}:\n{lines}"


class RecipeError(ProblemsError):
    """A recipe or a configuration that cannot be understood."""

    headline = "in the recipe"


class PlanError(ProblemsError):
    """A recipe that cannot be carried out on this model; raised before any weight changes."""

    headline = "while planning"


class FormatError(MtcoreError, ValueError):
    """A number format that contradicts itself, or a tensor that it cannot hold."""


class ModelError(MtcoreError):
    """A model that cannot be found, opened or understood."""


class TraceError(MtcoreError):
    """A model whose computation could not be recorded."""


class CalibrationError(MtcoreError):
    """Calibration data that is missing, too little or not finite; names the tensor."""


class StateError(MtcoreError):
    """A saved state that does not fit the model or the file format."""


class ExportError(ProblemsError):
    """An artifact that an exporter cannot write; raised before the first byte where that is possible."""

    headline = "while exporting"


class PluginError(MtcoreError):
    """A plugin that breaks the contract of a hook; names the plugin and its distribution."""
