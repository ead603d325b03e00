"""The built-ins are one plugin like any other, and nothing of it is forgotten."""

import pkgutil
from importlib import import_module

import mtcore.builtin
from mtcore.formats import builtin_formats
from mtcore.plugins import Registry
from mtcore.recipe import builtin_recipes


def hooks_of(module):
    return {name for name in vars(module) if hasattr(getattr(module, name), "mtcore_impl")}


def test_every_hook_of_every_file_takes_part():
    files = [import_module(f"mtcore.builtin.{info.name}") for info in pkgutil.iter_modules(mtcore.builtin.__path__)]
    assert hooks_of(mtcore.builtin) == set().union(*map(hooks_of, files))


def test_the_built_in_catalogs_are_those_of_the_rooms():
    registry = Registry.load(discover=False, strict=True)
    assert list(registry.formats.values()) == list(builtin_formats())
    assert list(registry.recipes.values()) == list(builtin_recipes())
    assert "nn.Linear" in registry.quant_modules
    assert "max" in registry.algorithms


def test_they_say_where_they_come_from():
    [info] = Registry.load(discover=False).plugins
    assert (info.name, info.distribution, info.entry_point) == ("builtin", "mtcore", "mtcore.builtin")
    assert info.file.endswith("builtin/__init__.py")
