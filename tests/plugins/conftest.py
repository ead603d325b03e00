"""Plugins to play with: handed over in code, or installed for the length of a test."""

import sys
import textwrap

import pytest

from mtcore.formats import PER_TENSOR, Float32Element, FloatElement, Scale, TensorFormat
from mtcore.hookspecs import hookimpl


@pytest.fixture
def make_format():
    """Makes a valid number format of a given name."""

    def make(name, aliases=()):
        return TensorFormat(name, FloatElement(2, 2), (Scale(Float32Element(), PER_TENSOR),), aliases=aliases)

    return make


@pytest.fixture
def make_plugin():
    """Makes an object with hooks: its name, then hook=function."""

    def make(plugin_name, **hooks):
        class Plugin:
            pass

        plugin = Plugin()
        plugin.__name__ = plugin_name
        for hook, function in hooks.items():
            setattr(plugin, hook, hookimpl(function))
        return plugin

    return make


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution with one plugin module: real metadata and entry points on sys.path."""
    monkeypatch.delenv("MTCORE_PLUGINS", raising=False)
    modules = []

    def write(distribution, source, *, plugin="toy", version="1.2", entry_points=None):
        site = tmp_path / distribution
        module = distribution.replace("-", "_") + "_hooks"
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entry_points or f"[mtcore]\n{plugin} = {module}\n")
        monkeypatch.syspath_prepend(str(site))
        modules.append(module)

    yield write
    for module in modules:
        sys.modules.pop(module, None)
