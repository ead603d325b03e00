"""Looking a record up by the name that a recipe gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from mtcore.errors import UnknownNameError

Record = TypeVar("Record")


def find(kind: str, name: str, records: Mapping[str, Record]) -> Record:
    """The record of that name.

    Raises:
        UnknownNameError: there is none. A registry's own message is kept, for it knows of plugins that are missing.
    """
    try:
        return records[name]
    except UnknownNameError:
        raise
    except KeyError:
        raise UnknownNameError(kind, name, records) from None
