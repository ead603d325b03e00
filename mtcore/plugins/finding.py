"""Finding plugins: the built-ins, the installed ones and those handed over, imported and checked one by one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import mtcore.builtin
from mtcore.errors import PluginError
from mtcore.plugins.calls import HookCalls
from mtcore.plugins.checking import checked_hooks, declared_api
from mtcore.plugins.compatibility import compatibility_note
from mtcore.plugins.entry_points import declared_plugins
from mtcore.plugins.isolation import isolated
from mtcore.plugins.plugin import Plugin
from mtcore.plugins.provenance import LoadFailure, Origin, PluginInfo
from mtcore.plugins.selection import Selection

if TYPE_CHECKING:
    import click


def _version_of_mtcore() -> str:
    try:
        return version("mtcore")
    except PackageNotFoundError:  # used from a source tree that was not installed
        return ""


BUILTIN = Origin("builtin", "mtcore", _version_of_mtcore(), "mtcore.builtin")


@dataclass(frozen=True)
class FoundPlugins:
    """The plugins of a process, before any record is asked for. Cheap: torch is not imported.

    Attributes:
        plugins: in the order in which catalogs list their records: built-ins, installed ones by name, handed over.
        failures: plugins that could not be imported or whose hooks are not in order.
        left_out: names of installed plugins that were not looked at, and why.
        twins: one line for every plugin that is left out because another has its name.
    """

    plugins: tuple[Plugin, ...]
    failures: tuple[LoadFailure, ...] = ()
    left_out: str = ""
    twins: tuple[str, ...] = ()

    def without(self, failures: Iterable[LoadFailure]) -> FoundPlugins:
        """The same, less plugins that failed later on."""
        failures = tuple(failures)
        gone = {failure.origin for failure in failures}
        kept = tuple(plugin for plugin in self.plugins if plugin.info.origin not in gone)
        return replace(self, plugins=kept, failures=(*self.failures, *failures))

    def add_commands(self, cli: click.Group) -> tuple[LoadFailure, ...]:
        """Let every plugin add its commands to `mtopt`; a plugin that fails, or takes a taken name, adds none."""
        failures: list[LoadFailure] = []
        for impl, origin in HookCalls(self.plugins).implementations("mtcore_add_commands"):
            before = dict(cli.commands)
            count = len(failures)
            with isolated(origin, failures):
                impl(cli=cli)
                taken = [name for name, command in before.items() if cli.commands.get(name) is not command]
                if taken:
                    raise PluginError(f"it replaces commands of mtopt: {', '.join(sorted(taken))}")
            if len(failures) > count:
                cli.commands.clear()
                cli.commands.update(before)
        return tuple(failures)


def find_plugins(
    extra: Iterable[object] = (),
    *,
    discover: bool = True,
    only: Collection[str] | None = None,
    exclude: Collection[str] = (),
) -> FoundPlugins:
    """Import and check plugins.

    Args:
        extra: modules or objects with hooks, beside the installed ones; named by their `__name__` or class.
        discover: whether to look for installed plugins.
        only, exclude: names of installed plugins to look at, or not to. Where neither is given, the environment
            variable MTCORE_PLUGINS decides: `only:a,b` or `no:a,b`.

    Raises:
        PluginError: two plugins have one name, or MTCORE_PLUGINS cannot be read.
    """
    found = look_for_plugins(extra, discover=discover, only=only, exclude=exclude)
    if found.twins:
        raise PluginError("\n".join(found.twins))
    return found


def look_for_plugins(
    extra: Iterable[object] = (),
    *,
    discover: bool = True,
    only: Collection[str] | None = None,
    exclude: Collection[str] = (),
) -> FoundPlugins:
    """The same as `find_plugins`, but of two plugins with one name the first is kept and the other told of.

    Raises:
        PluginError: MTCORE_PLUGINS cannot be read.
    """
    failures: list[LoadFailure] = []
    wanted: list[tuple[Origin, Callable[[], object]]] = []
    left_out = ""
    if discover:
        selection = Selection.choose(only, exclude)
        declared = declared_plugins(failures)
        wanted += [(one.origin, one.entry_point.load) for one in declared if one.origin.plugin in selection]
        left_out = _left_out(selection, [one.origin.plugin for one in declared])
        failures += _missing(selection, {one.origin.plugin for one in declared})
    installed = len(wanted)
    wanted += [(Origin(getattr(one, "__name__", type(one).__name__)), partial(_itself, one)) for one in extra]
    plugins = [_checked(BUILTIN, mtcore.builtin, installed=True)]
    twins: list[str] = []
    taken = {BUILTIN.plugin: BUILTIN}
    for number, (origin, load) in enumerate(wanted):
        other = taken.setdefault(origin.plugin, origin)
        if other is not origin:
            twins.append(_twins(other, origin))
            continue
        with isolated(origin, failures):
            plugins.append(_checked(origin, load(), installed=number < installed))
    return FoundPlugins(tuple(plugins), tuple(failures), left_out, tuple(twins))


def _itself(plugin: object) -> object:
    return plugin


def _checked(origin: Origin, module: object, *, installed: bool) -> Plugin:
    api = declared_api(module, installed=installed)
    note = compatibility_note(api)
    hooks = checked_hooks(module)
    file = getattr(sys.modules.get(getattr(module, "__module__", "")), "__file__", None)
    info = PluginInfo(origin, getattr(module, "__file__", None) or file or "", api, note)
    return Plugin(info, module, hooks)


def _twins(first: Origin, second: Origin) -> str:
    return (
        f"two plugins have the name {second.plugin!r}: {_described(first)} and {_described(second)}; "
        f"rename one, uninstall one, or leave both out with MTCORE_PLUGINS=no:{second.plugin}"
    )


def _described(origin: Origin) -> str:
    return f"{origin.entry_point} of {origin.distribution} {origin.version}" if origin.distribution else str(origin)


def _left_out(selection: Selection, names: Iterable[str]) -> str:
    names = [name for name in names if name not in selection]
    return f"plugins left out ({selection.why}): {', '.join(names)}" if names else ""


def _missing(selection: Selection, names: set[str]) -> list[LoadFailure]:
    return [
        LoadFailure(Origin(name), f"no such plugin is installed ({selection.why}); installed: {_list(names)}")
        for name in selection.only or ()
        if name not in names
    ]


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
