"""Entry points of the group `mtcore`: which installed distributions declare plugins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions

from mtcore.plugins.isolation import isolated
from mtcore.plugins.provenance import LoadFailure, Origin

GROUP = "mtcore"


@dataclass(frozen=True)
class Declared:
    """A plugin that a distribution declares; nothing of it is imported yet."""

    origin: Origin
    entry_point: EntryPoint


def declared_plugins(failures: list[LoadFailure]) -> list[Declared]:
    """Every declared plugin, by name. A distribution that cannot be read is appended to `failures`.

    Distributions are read one by one: `importlib.metadata.entry_points` raises for all if one is malformed.
    Of two distributions with one name, the first on the path counts, as for an import.
    """
    found: list[Declared] = []
    seen: set[str] = set()
    for distribution in filter(_mentions_group, distributions()):
        name = re.sub(r"[-_.]+", "-", _name(distribution)).lower()
        if name not in seen:
            seen.add(name)
            with isolated(Origin("?", _name(distribution)), failures):
                found += _plugins_of(distribution)
    return sorted(found, key=lambda declared: (declared.origin.plugin, declared.origin.distribution))


def _mentions_group(distribution: Distribution) -> bool:
    """A cheap look, before anything is parsed, at the file that every installed distribution may have."""
    try:
        return f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or "")
    except UnicodeDecodeError:  # no installer writes such a file, and nobody can read it
        return False


def _plugins_of(distribution: Distribution) -> Iterator[Declared]:
    for entry_point in distribution.entry_points:
        if entry_point.group == GROUP:
            origin = Origin(entry_point.name, _name(distribution), distribution.version, entry_point.value)
            yield Declared(origin, entry_point)


def _name(distribution: Distribution) -> str:
    return distribution.name or "a distribution without a name"
