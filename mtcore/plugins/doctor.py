"""Doctor: what is in order with the plugins of a process and what is not, also where a registry would refuse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mtcore.hookspecs import RECORD_HOOKS
from mtcore.plugins.collecting import collect, conflicts, names_of
from mtcore.plugins.finding import look_for_plugins
from mtcore.plugins.plugin import Plugin
from mtcore.plugins.provenance import LoadFailure, PluginInfo


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        plugins: those that load, built-ins first.
        brings: plugin → hook → names of the records that it brings; no names for hooks that give no records.
        failures: those that do not load, with tracebacks.
        conflicts: one line for every name that two plugins, or two records of them, have.
        left_out: names of installed plugins that were not looked at, and why; "" where all were.
    """

    plugins: tuple[PluginInfo, ...]
    brings: Mapping[str, Mapping[str, tuple[str, ...]]]
    failures: tuple[LoadFailure, ...]
    conflicts: tuple[str, ...]
    left_out: str = ""

    @property
    def healthy(self) -> bool:
        """Whether a registry takes everything. A plugin of an older hook API is taken, and has a note."""
        return not self.failures and not self.conflicts

    def to_json(self) -> dict[str, Any]:
        brings = {
            plugin: {hook: list(names) for hook, names in hooks.items()} for plugin, hooks in self.brings.items()
        }
        return {
            "healthy": self.healthy,
            "plugins": [{**info.to_json(), "contributes": brings[info.name]} for info in self.plugins],
            "failures": [failure.to_json() for failure in self.failures],
            "conflicts": list(self.conflicts),
            "left_out": self.left_out,
        }


def diagnose(extra: Iterable[object] = (), *, discover: bool = True) -> Diagnosis:
    """Import all plugins, ask them for their records, and tell what is in order and what is not.

    Args:
        extra: modules or objects with hooks, beside the installed ones.
        discover: whether to look for installed plugins.

    Raises:
        PluginError: MTCORE_PLUGINS cannot be read.
    """
    found = look_for_plugins(extra, discover=discover)
    collected = collect(found)
    found = found.without(collected.failures)
    return Diagnosis(
        tuple(plugin.info for plugin in found.plugins),
        {plugin.info.name: _brings(plugin, collected.records[plugin.info.origin]) for plugin in found.plugins},
        found.failures,
        (*found.twins, *conflicts(collected.records)),
        found.left_out,
    )


def _brings(plugin: Plugin, records: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[str, ...]]:
    return {
        hook: tuple(names_of(RECORD_HOOKS[hook], record)[0] for record in records[hook]) if hook in records else ()
        for hook in plugin.hooks
    }
