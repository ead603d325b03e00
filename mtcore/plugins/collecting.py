"""Collecting records: every declarative hook of every plugin is called once; a plugin gives all or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mtcore.errors import PluginError
from mtcore.hookspecs import RECORD_HOOKS, RecordHook
from mtcore.plugins.calls import resolve
from mtcore.plugins.finding import BUILTIN, FoundPlugins
from mtcore.plugins.isolation import isolated
from mtcore.plugins.plugin import Plugin
from mtcore.plugins.provenance import LoadFailure, Origin

Records = Mapping[str, tuple[Any, ...]]
"""Hook → the records of one plugin."""


@dataclass(frozen=True)
class Collected:
    """What all plugins gave. Plugins whose hooks raised are in `failures` and nowhere else."""

    records: Mapping[Origin, Records]
    failures: tuple[LoadFailure, ...]


def collect(found: FoundPlugins) -> Collected:
    """Call the declarative hooks of all plugins."""
    failures: list[LoadFailure] = []
    records: dict[Origin, Records] = {}
    for plugin in found.plugins:
        origin = plugin.info.origin
        if origin is BUILTIN:  # ours: an error in it is a bug, and is raised as such
            records[origin] = _records_of(plugin)
            continue
        with isolated(origin, failures):
            records[origin] = _records_of(plugin)
    return Collected(records, tuple(failures))


def _records_of(plugin: Plugin) -> Records:
    return {
        name: _checked(hook, plugin.hooks[name].function())
        for name, hook in RECORD_HOOKS.items()
        if name in plugin.hooks
    }


def _checked(hook: RecordHook, given: object) -> tuple[Any, ...]:
    wanted = hook.record.partition(":")[2]
    if not isinstance(given, Iterable):
        raise PluginError(f"{hook.hook} returned a {type(given).__name__}; yield {wanted} records")
    records = tuple(given)
    names: set[str] = set()
    for record in records:
        if not isinstance(record, resolve(hook.record)):
            raise PluginError(f"{hook.hook} gave a {type(record).__name__}; it must give {wanted} records")
        for name in names_of(hook, record):
            if not isinstance(name, str) or not name:
                raise PluginError(f"{hook.hook} gave a {hook.kind} with the name {name!r}; a name is text")
            if name in names:
                raise PluginError(f"{hook.hook} gave the {hook.kind} {name!r} twice")
            names.add(name)
    return records


def names_of(hook: RecordHook, record: Any) -> tuple[str, ...]:
    """Every name under which a record is found, its own first."""
    return (record.name, *record.aliases) if hook.aliases else (record.name,)


def conflicts(records: Mapping[Origin, Records]) -> list[str]:
    """One line for every name that two plugins bring."""
    problems = []
    owners: dict[tuple[str, str], Origin] = {}
    for origin, by_hook in records.items():
        for hook, given in by_hook.items():
            for name in (name for record in given for name in names_of(RECORD_HOOKS[hook], record)):
                owner = owners.setdefault((hook, name), origin)
                if owner is not origin:
                    problems.append(
                        f"the {RECORD_HOOKS[hook].kind} {name!r} is brought by {owner} and by {origin}; "
                        f"leave one plugin out, for instance with MTCORE_PLUGINS=no:{origin.plugin}"
                    )
    return problems
