"""Catalog: the records of one kind by name, read-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from mtcore.errors import UnknownNameError

Record = TypeVar("Record")


class Catalog(Mapping[str, Record], Generic[Record]):
    """Records by name, in the order in which they were brought: the built-ins first, then plugin by plugin.

    Aliases are found as well, but not listed. A name that is not there raises `UnknownNameError`, which is a
    KeyError, offers the nearest names and tells of plugins that are missing.

    Example:
        >>> numbers = Catalog("number", {"one": 1, "two": 2}, aliases={"eins": "one"})
        >>> numbers["eins"], list(numbers)
        (1, ['one', 'two'])
        >>> numbers["tow"]
        Traceback (most recent call last):
        mtcore.errors.UnknownNameError: no number named 'tow'. Did you mean 'two'? Known: eins, one, two
    """

    __slots__ = ("_aliases", "_hint", "_records", "kind")
    kind: str

    def __init__(
        self, kind: str, records: Mapping[str, Record], *, aliases: Mapping[str, str] | None = None, hint: str = ""
    ) -> None:
        """`hint` is added to the message about an unknown name."""
        for name, value in {
            "kind": kind,
            "_records": MappingProxyType(dict(records)),
            "_aliases": MappingProxyType(dict(aliases or {})),
            "_hint": hint,
        }.items():
            object.__setattr__(self, name, value)

    _records: Mapping[str, Record]
    _aliases: Mapping[str, str]
    _hint: str

    def __getitem__(self, name: str) -> Record:
        try:
            return self._records[self._aliases.get(name, name)]
        except KeyError:
            known = (*self._records, *self._aliases)
            raise UnknownNameError(self.kind, name, known, self._hint) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a catalog is read-only: {name} cannot be set")

    def __repr__(self) -> str:
        return f"Catalog({self.kind}: {', '.join(self)})"
