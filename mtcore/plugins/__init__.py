"""Plugins: found through entry points, isolated from each other, collected into an immutable Registry."""

from mtcore.plugins.catalog import Catalog
from mtcore.plugins.doctor import Diagnosis, diagnose
from mtcore.plugins.finding import FoundPlugins, find_plugins
from mtcore.plugins.phases import PhaseOutcome, RunFacts
from mtcore.plugins.plugin import Plugin
from mtcore.plugins.provenance import LoadFailure, Origin, PluginInfo
from mtcore.plugins.registry import Registry, default_registry

__all__ = [
    "Catalog",
    "Diagnosis",
    "FoundPlugins",
    "LoadFailure",
    "Origin",
    "PhaseOutcome",
    "Plugin",
    "PluginInfo",
    "Registry",
    "RunFacts",
    "default_registry",
    "diagnose",
    "find_plugins",
]
