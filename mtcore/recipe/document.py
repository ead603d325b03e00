"""A recipe's text as plain data that remembers where every value stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from mtcore.errors import RecipeError

KeyPath = tuple[str | int, ...]
"""Keys and indices from the top of a document down to a value."""

Plain = None | bool | int | float | str | list["Plain"] | dict[str | int, "Plain"]
"""What YAML and JSON can say; keys are texts, or integers where a foreign grammar has them."""


@dataclass(frozen=True)
class Document:
    """One recipe as it was written.

    Attributes:
        title: for messages: "recipe nvfp4", "mine.yaml", "the given config".
        data: the content.
        lines: the line of every value, counted from 1; empty where there is no text.
        folder: where paths of included files start.
        overridden: the override that set a value, by path.
        is_file: whether a user can open the text and look at a line.
    """

    title: str
    data: Plain
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    folder: Path = Path()
    overridden: Mapping[KeyPath, str] = field(default_factory=dict)
    is_file: bool = False

    @property
    def identity(self) -> str:
        """What tells this document from others: a file's path, else the title."""
        return str((self.folder / self.title).resolve()) if self.is_file else self.title

    def place(self, path: KeyPath) -> str:
        """Where a value stands, for messages: "mine.yaml, line 7 (rules.1.weight)"."""
        dotted = f" ({'.'.join(map(str, path))})" if path else ""
        prefixes = [path[:length] for length in range(len(path), -1, -1)]
        for prefix in prefixes:
            if prefix in self.overridden:
                return f"{self.title}, override {self.overridden[prefix]!r}{dotted}"
        for prefix in prefixes:
            if prefix in self.lines:
                return f"{self.title}, line {self.lines[prefix]}{dotted}"
        return f"{self.title}{dotted}"

    def origin(self, statement: str, path: KeyPath) -> str:
        """Who said the value at `path`: "rule #2 of recipe nvfp4", a file's line, the overrides that changed it."""
        changes = [text for where, text in self.overridden.items() if where[: len(path)] == path]
        changed = f", changed by override {', '.join(map(repr, changes))}" if changes else ""
        line = f", line {self.lines[path]}" if self.is_file and path in self.lines else ""
        return f"{statement} of {self.title}{line}{changed}"


class Problems:
    """What is wrong with a recipe, collected over all its parts, each line once."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def add(self, place: str, message: str) -> None:
        self._lines[f"{place}: {message}" if place else message] = None

    def __len__(self) -> int:
        return len(self._lines)

    def raise_if_any(self) -> None:
        if self._lines:
            raise RecipeError(list(self._lines))


def unknown(kind: str, name: object, known: list[str]) -> str:
    """The message on a name that nobody knows, with the nearest one that is known.

    Example:
        >>> unknown("key", "wieght", ["input", "weight"])
        "unknown key 'wieght'. Did you mean 'weight'? Known: input, weight"
    """
    near = get_close_matches(str(name), known, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{guess} Known: {', '.join(known)}"
