"""Plugins: found through entry points, isolated from each other, collected into an immutable Registry."""

from mtcore.plugins.catalog import Catalog
from mtcore.plugins.finding import FoundPlugins, Plugin, find_plugins
from mtcore.plugins.phases import PhaseOutcome, RunFacts
from mtcore.plugins.provenance import LoadFailure, Origin, PluginInfo
from mtcore.plugins.registry import Registry, default_registry

__all__ = [
    "Catalog",
    "FoundPlugins",
    "LoadFailure",
    "Origin",
    "PhaseOutcome",
    "Plugin",
    "PluginInfo",
    "Registry",
    "RunFacts",
    "default_registry",
    "find_plugins",
]
