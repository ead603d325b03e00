"""The example plugin: written with public names alone, and found when it is installed."""

from __future__ import annotations

import ast
import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from mtopt_example import hooks
from tests.docs.pages import private_imports

EXAMPLE = Path(__file__).parents[2] / "examples" / "mtopt-example"
SOURCES = sorted(EXAMPLE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_example_imports_public_names_alone(path):
    assert not private_imports(path.read_text(encoding="utf-8"))


def test_the_example_uses_no_private_attribute_of_what_it_imports():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                assert node.attr.startswith("__"), f"{path.name}:{node.lineno} uses {node.attr}"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment of its own, with a copy of the example installed; no index is asked."""
    root = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, root / "plugin", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "build"))
    venv.create(root / "venv", symlinks=True)
    interpreter = root / "venv" / "bin" / "python"
    inherit = "".join(f"import site; site.addsitedir({folder!r})\n" for folder in site.getsitepackages())
    lib = root / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (lib / "inherit.pth").write_text(inherit)
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([*pip, *offline, "-e", str(root / "plugin")], check=True, capture_output=True, text=True)
    return interpreter


def mtopt(python, *commands):
    """What some commands print with `--json`, all in one process."""
    code = "import sys; from mtcore.cli.main import run\nfor c in sys.argv[1:]: run([c, '--json']), print(chr(0))"
    only = {**os.environ, "MTCORE_PLUGINS": "only:example"}
    done = subprocess.run([python, "-c", code, *commands], env=only, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(printed) for printed in done.stdout.split("\0") if printed.strip()]


def test_an_installed_plugin_is_found(python):
    plugins, formats = mtopt(python, "plugins", "formats")
    found = {plugin["name"]: plugin for plugin in plugins["plugins"]}
    assert found["example"]["distribution"] == "mtopt-example"
    assert found["example"]["contributes"] == {name: 1 for name in vars(hooks) if name.startswith("mtcore_")}
    assert "fp5_row" in {fmt["name"] for fmt in formats}
