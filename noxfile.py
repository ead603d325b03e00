"""The matrix: what is tested with what. `nox -l` lists the sessions, `nox -s core` runs one.

Every session has an environment of its own and takes torch from the constraints file. Times are in
docs/reference/matrix.md.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["core", "plugins", "together", "broken", "wheels", "docs"]

PYTHONS = ["3.11", "3.12", "3.13"]
CONSTRAINTS = Path("constraints.txt").resolve()
OLDEST_TORCH = "2.11.0"
PLUGINS = {
    "mtopt-hf": {"oldest": ["transformers==5.21.1", "compressed-tensors==0.20.0"], "newest": ["transformers"]},
    "mtopt-kernels": {"oldest": ["triton==3.6.0"], "newest": ["triton"]},
}
"""Plugin → the oldest and the newest version of the library that it is for."""

PYTEST = ("python", "-m", "pytest", "-n", "2")
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


def install(session: nox.Session, *what: str, pins: tuple[str, ...] = ()) -> None:
    """pip install under the constraints, less those that `pins` replaces."""
    replaced = {pin.split("=")[0].split(">")[0].split("<")[0] for pin in pins}
    lines = [
        line
        for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines()
        if line.partition("==")[0].strip() not in replaced
    ]
    own = Path(session.virtualenv.location) / "constraints.txt"
    own.write_text("\n".join([*lines, *(pin for pin in pins if "=" in pin)]) + "\n", encoding="utf-8")
    session.install(*what, *pins, env={"PIP_CONSTRAINT": str(own)})


@nox.session
@nox.parametrize("torch", [OLDEST_TORCH, "constrained"])
def core(session: nox.Session, torch: str) -> None:
    """The core alone: nothing of it may need a plugin. Whole runs and the pages do."""
    pins = () if torch == "constrained" else (f"torch=={torch}",)
    install(session, "-e", ".[dev]", pins=pins)
    without = ("--ignore=tests/integration", "--ignore=tests/docs", "--ignore=tests/test_readme.py")
    session.run(*PYTEST, "mtcore", "tests", *without, *session.posargs, env=ENVIRONMENT)


@nox.session
@nox.parametrize("library", ["oldest", "newest"])
@nox.parametrize("plugin", list(PLUGINS))
def plugins(session: nox.Session, plugin: str, library: str) -> None:
    """One plugin beside the core, with the oldest or the newest version of its library."""
    packages = ("-e", ".[dev]", "-e", f"plugins/{plugin}[testing]", "-e", "models/mtopt-tinylm")
    install(session, *packages, pins=tuple(PLUGINS[plugin][library]))
    session.run("mtopt", "plugins", "doctor")
    session.run(*PYTEST, f"plugins/{plugin}", *session.posargs, env=ENVIRONMENT)


@nox.session(python=PYTHONS)
def together(session: nox.Session) -> None:
    """Everything in one environment: no two plugins bring one name, and all tests pass."""
    # Builds of torch for CUDA bring the Triton that they were made with.
    packages = (*_editable("plugins", "models"), "-e", "examples/mtopt-example")
    install(session, "-e", ".[dev]", *packages, pins=("triton",))
    session.run("mtopt", "plugins", "doctor")
    session.run(*PYTEST, *session.posargs, env=ENVIRONMENT)


@nox.session
def broken(session: nox.Session) -> None:
    """A plugin that raises when it is imported: it is named, and nothing else is broken."""
    install(session, "-e", ".[testing]")
    folder = Path(session.virtualenv.location) / "mtopt-broken"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("mtopt", "new-plugin", "mtopt-broken", "--with", "format", "--directory", str(folder))
    hooks = folder / "src" / "mtopt_broken" / "hooks.py"
    hooks.write_text('raise RuntimeError("broken on purpose")\n', encoding="utf-8")
    session.install("--no-deps", "-e", str(folder))
    session.run("python", "-c", "import mtcore; mtcore.Registry.load().formats['nvfp4']")
    session.run("mtopt", "formats", silent=True)
    shown = session.run("mtopt", "plugins", "doctor", silent=True, success_codes=[1]) or ""
    assert "RuntimeError: broken on purpose" in str(shown), shown
    session.run("pip", "uninstall", "-y", "mtopt-broken", silent=True)


@nox.session
def wheels(session: nox.Session) -> None:
    """Every package builds, and installs from its wheel alone into an empty environment."""
    session.install("build")
    session.run("python", "bench/wheels.py", "--constraints", str(CONSTRAINTS))


@nox.session
def docs(session: nox.Session) -> None:
    """The site builds without a warning."""
    install(session, "-e", ".[dev,docs]", *_editable("plugins", "models"))
    session.run("python", "-m", "sphinx", "-W", "-q", "docs", "build/docs")


@nox.session
def released(session: nox.Session) -> None:
    """The last released plugins against this core; from the second release on."""
    install(session, "-e", ".[dev]", *PLUGINS)
    session.run("mtopt", "plugins", "doctor")
    for plugin in PLUGINS:
        session.run(*PYTEST, f"plugins/{plugin}/tests", *session.posargs, env=ENVIRONMENT)


@nox.session
def gpu(session: nox.Session) -> None:
    """What needs a CUDA device; uses the packages of the machine, torch above all."""
    session.install("--no-deps", "-e", ".", *_editable("plugins", "models"))
    session.run("python", "-m", "pytest", "-m", "gpu", *session.posargs)


def _editable(*folders: str) -> list[str]:
    packages = [path.parent for folder in folders for path in sorted(Path(folder).glob("[!_]*/pyproject.toml"))]
    return [argument for package in packages for argument in ("-e", str(package))]


if "CI" in os.environ:
    nox.options.error_on_missing_interpreters = True
