"""Promises about the package as a whole: quick imports, a first line in every file, a docstring on every name."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mtcore

ROOT = Path(__file__).parent.parent
IMPORT_LIMIT_S = 0.3
PACKAGES = sorted({"mtcore", *(m.name for m in pkgutil.walk_packages(mtcore.__path__, "mtcore.") if m.ispkg)})


def _files():
    """Every Python file of the repository that is not a test: a test's name says what it mirrors."""
    for folder in ("mtcore", "plugins", "models", "examples", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not {".venv", "build", "tests"} & set(path.relative_to(ROOT).parts):
                yield path


FILES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in _files()]


def test_importing_mtcore_costs_less_than_three_tenths_of_a_second_beyond_torch():
    # Processor time, which a busy machine does not stretch as it stretches the clock; the least of three.
    code = "import time, torch; start = time.process_time(); import mtcore; print(time.process_time() - start)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)
    ]
    assert min(float(run.stdout) for run in runs) < IMPORT_LIMIT_S


def test_importing_mtcore_imports_no_torch_before_it_is_needed():
    code = "import sys, mtcore; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", FILES)
def test_the_first_line_of_every_file_says_what_it_owns(path):
    lines = path.read_text().splitlines()
    first = lines[1] if lines[0].startswith("#!") else lines[0]
    assert first.startswith('"""'), "the first line is the module's docstring"
    assert len(first.strip('"').split()) >= 3, f"{first} says nothing"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_a_docstring(package):
    module = importlib.import_module(package)
    bare = [name for name in getattr(module, "__all__", ()) if not _documented(getattr(module, name))]
    assert not bare, f"{package}: no docstring on {', '.join(bare)}"


def _documented(value):
    """Whether a class or function brings its own docstring.

    Constants are documented where they are defined, implementations of hooks where the hook is.
    """
    if not (inspect.isclass(value) or inspect.isfunction(value)) or hasattr(value, "mtcore_impl"):
        return True
    doc = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    return bool(doc) and not doc.startswith(f"{value.__name__}(")  # the latter is what dataclasses make up
