"""Plugin: a module or object whose hooks were checked, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from mtcore.plugins.checking import Hooks
from mtcore.plugins.provenance import PluginInfo


@dataclass(frozen=True)
class Plugin:
    """A plugin that was imported and whose hooks are in order."""

    info: PluginInfo
    module: object
    hooks: Hooks
