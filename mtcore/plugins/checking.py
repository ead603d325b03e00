"""Checks of one plugin before it takes part: its version, its hooks' names and their arguments."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import pluggy

from mtcore import hookspecs
from mtcore.errors import PluginError
from mtcore.hookspecs import HOOK_API
from mtcore.plugins.compatibility import ATTRIBUTE, parse_version

Hooks = Mapping[str, pluggy.HookImpl]
"""The implementations of one plugin by hook."""


def new_manager() -> pluggy.PluginManager:
    """A pluggy manager that knows mtcore's hooks and no plugin."""
    manager = pluggy.PluginManager("mtcore")
    manager.add_hookspecs(hookspecs)
    return manager


def declared_api(plugin: object, *, installed: bool) -> tuple[int, int]:
    """The hook API that a plugin was written for.

    An installed plugin must say it. One that is handed over in code is written beside its caller, for the version
    at hand, and may leave it out.

    Raises:
        PluginError: it says nothing, or says it wrongly.
    """
    declared = getattr(plugin, ATTRIBUTE, None)
    if declared is None and not installed:
        return HOOK_API
    if declared is None:
        major, minor = HOOK_API
        raise PluginError(f'it states no hook API; write {ATTRIBUTE} = "{major}.{minor}" beside its hooks')
    return parse_version(declared)


def checked_hooks(plugin: object) -> Hooks:
    """The hook implementations of a plugin, tried in a manager of their own.

    Raises:
        PluginError: a hook that does not exist, an argument that the hook does not have, a wrapper, a function
            with a hook's name that lacks the marker, or no hook at all.
    """
    manager = new_manager()
    try:
        manager.register(plugin)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(_explained(manager, plugin, error)) from error
    callers = manager.get_hookcallers(plugin) or []
    hooks = {caller.name: impl for caller in callers for impl in caller.get_hookimpls()}
    _refuse_unmarked(plugin, hooks)
    if not hooks:
        raise PluginError("it has no hooks; mark them with mtcore.hookspecs.hookimpl")
    for name, impl in hooks.items():
        if impl.wrapper or impl.hookwrapper:
            raise PluginError(f"{name} is a hook wrapper; mtcore calls plain implementations only")
    return hooks


def _explained(manager: pluggy.PluginManager, plugin: object, error: pluggy.PluginValidationError) -> str:
    known = hook_names()
    for name in (name for name in dir(plugin) if manager.parse_hookimpl_opts(plugin, name) is not None):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            return f"there is no hook {name!r}{guess} Hooks: {', '.join(known)}"
    return " ".join(str(error).split())


def _refuse_unmarked(plugin: object, hooks: Hooks) -> None:
    own_module = getattr(plugin, "__name__", None)
    for name in hook_names():
        function = getattr(plugin, name, None)
        if name in hooks or not callable(function):
            continue
        if function.__module__ in (own_module, type(plugin).__module__):
            raise PluginError(f"its function {name} is not marked with mtcore.hookspecs.hookimpl")


def hook_names() -> tuple[str, ...]:
    """The names of all hooks, in the order of the page that declares them."""
    return tuple(name for name in vars(hookspecs) if name.startswith("mtcore_"))
