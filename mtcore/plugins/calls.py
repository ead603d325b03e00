"""Calling hooks so that whatever goes wrong names the plugin."""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any

import pluggy

from mtcore.errors import PluginError
from mtcore.hookspecs import FIRST_RESULTS
from mtcore.plugins.checking import new_manager
from mtcore.plugins.plugin import Plugin
from mtcore.plugins.provenance import Origin

_log = logging.getLogger("mtcore")


class HookCalls:
    """The hooks of some plugins, ready to be called."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        """`plugins`: built-ins first; pluggy calls in the opposite order of registering."""
        self._manager = new_manager()
        self._origins: dict[str, Origin] = {}
        builtins, *others = plugins
        handed_over = [plugin for plugin in others if not plugin.info.distribution]
        installed = [plugin for plugin in others if plugin.info.distribution]
        for plugin in (builtins, *reversed(installed), *reversed(handed_over)):
            self._manager.register(plugin.module, plugin.info.name)
            self._origins[plugin.info.name] = plugin.info.origin

    def implementations(self, hook: str) -> list[tuple[Callable[..., Any], Origin]]:
        """The implementations of a hook in calling order; each takes the hook's arguments by keyword."""
        impls = getattr(self._manager.hook, hook).get_hookimpls()
        return [(_by_keyword(impl), self._origins[impl.plugin_name]) for impl in reversed(impls)]

    def first(self, hook: str, **arguments: object) -> tuple[Any, Origin] | None:
        """The first answer that is not None, with the plugin that gave it; None if nobody has one.

        Raises:
            PluginError: the answer is of another type than the hook says.
            Exception: what an implementation raises, with a note that names the plugin.
        """
        for impl, origin in self.implementations(hook):
            try:
                result = impl(**arguments)
            except Exception as error:
                error.add_note(f"raised in {hook} of {origin}")
                raise
            if result is None:
                continue
            if not isinstance(result, resolve(FIRST_RESULTS[hook])):
                wanted = FIRST_RESULTS[hook].partition(":")[2]
                raise PluginError(f"{origin}: {hook} returned a {type(result).__name__}; return a {wanted} or None")
            return result, origin
        return None

    def observe(self, hook: str, **arguments: object) -> None:
        """Call every implementation; what one raises is logged, for an observer stops nothing."""
        for impl, origin in self.implementations(hook):
            try:
                impl(**arguments)
            except Exception:  # noqa: BLE001  an observer's own trouble must not cost hours of calibration
                _log.exception("%s of %s raised; the run goes on", hook, origin)


def resolve(reference: str) -> type:
    """The class that "module:class" names, imported when it is needed."""
    found = pkgutil.resolve_name(reference)
    assert isinstance(found, type)
    return found


def _by_keyword(impl: pluggy.HookImpl) -> Callable[..., Any]:
    """An implementation may name fewer arguments than its hook has."""

    def call(**arguments: object) -> Any:
        return impl.function(*(arguments[name] for name in impl.argnames))

    return call
