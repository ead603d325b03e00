#!/usr/bin/env python3
"""Builds every package, looks into the wheels, and installs them into an empty environment.

python bench/wheels.py                                     # needs `build`, and a pip that reaches an index
python bench/wheels.py --constraints constraints.txt       # with pinned dependencies
python bench/wheels.py --no-install                        # builds and looks into them only
"""

from __future__ import annotations

import argparse
import email
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [
    ROOT,
    *(p.parent for f in ("plugins", "models") for p in sorted((ROOT / f).glob("[!_]*/pyproject.toml"))),
]
CHECK = """
import mtcore, mtcore.testing, mtcore.plugins
diagnosis = mtcore.plugins.diagnose()
assert diagnosis.healthy, (diagnosis.failures, diagnosis.conflicts)
print(*(f"{plugin.name} {plugin.version}" for plugin in diagnosis.plugins), sep=", ")
"""


def build(package: Path, out: Path) -> Path:
    """The wheel of a package, made from its source distribution as an index would get it."""
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(package)]
    if importable("setuptools", (77,)):  # no index is needed then
        command.insert(3, "--no-isolation")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{package.name} does not build:\n{done.stdout}{done.stderr}")
    name = re.sub(r"[-.]+", "_", project_name(package))
    [wheel] = out.glob(f"{name}-*.whl")
    return wheel


def importable(name: str, least: tuple[int, ...]) -> bool:
    """Whether this environment has a package in that version or a newer one."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return tuple(int(part) for part in version(name).split(".")[:1]) >= least
    except PackageNotFoundError:
        return False


def project_name(package: Path) -> str:
    """The distribution's name."""
    import tomllib

    return str(tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"])


def problems(wheel: Path) -> list[str]:
    """What a wheel lacks."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        facts = email.message_from_bytes(archive.read(metadata))
    found = []
    if not any(name.endswith("/py.typed") for name in names):
        found.append("no py.typed: its types are not seen")
    if not any("/licenses/LICENSE" in name for name in names):
        found.append("no licence")
    if facts["License-Expression"] != "Apache-2.0":
        found.append(f"License-Expression is {facts['License-Expression']}")
    if not facts["Summary"] or not facts.get_payload():
        found.append("no summary, or no description")
    if not facts["Requires-Python"]:
        found.append("no Requires-Python")
    found += [f"{name} does not belong there" for name in names if "__pycache__" in name or name.endswith(".pyc")]
    if facts["Name"] == "mtcore":
        found += [
            f"no extra {extra!r}" for extra in ("testing",) if extra not in facts.get_all("Provides-Extra", [])
        ]
        wanted = ("hooks.py", ".github/workflows/test.yml", "py.typed", "pyproject.toml")
        template = [name for name in names if name.startswith("mtcore/plugins/template/")]
        found += [f"the template lacks {file}" for file in wanted if not any(n.endswith(file) for n in template)]
    elif facts["Name"] != "mtopt-tinylm":
        minor = int(facts["Version"].split(".")[1])
        pin = re.compile(rf"mtcore(<0\.{minor + 1},>=0\.{minor}|>=0\.{minor},<0\.{minor + 1})")
        if not any(pin.fullmatch(line.replace(" ", "")) for line in facts.get_all("Requires-Dist", [])):
            found.append(f"it is not pinned to mtcore>=0.{minor},<0.{minor + 1}")
    return found


def install(wheels: list[Path], folder: Path, constraints: Path | None) -> None:
    """All wheels in an empty environment; the index gives their dependencies and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if constraints is not None:
        environment["PIP_CONSTRAINT"] = str(constraints.resolve())
    python = str(folder / "bin" / "python")
    names = [f"{wheel}[testing]" if wheel.name.startswith("mtcore-") else str(wheel) for wheel in wheels]
    subprocess.run([python, "-m", "pip", "install", "-q", *names], check=True, env=environment, cwd=folder)
    subprocess.run([python, "-m", "pip", "check"], check=True, env=environment, cwd=folder)
    subprocess.run([python, "-c", CHECK], check=True, env=environment, cwd=folder)
    mtopt = str(folder / "bin" / "mtopt")
    subprocess.run(
        [mtopt, "new-plugin", "acme"], check=True, env=environment, cwd=folder, stdout=subprocess.DEVNULL
    )
    subprocess.run([mtopt, "formats"], check=True, env=environment, cwd=folder, stdout=subprocess.DEVNULL)


def main() -> None:
    """Build, look, install."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--constraints", type=Path)
    parser.add_argument("--no-install", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        wheels, wrong = [], []
        for package in PACKAGES:
            start = time.perf_counter()
            wheel = build(package, Path(scratch) / "dist")
            wheels.append(wheel)
            found = problems(wheel)
            wrong += [f"{wheel.name}: {problem}" for problem in found]
            print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, {time.perf_counter() - start:.0f} s")
        if wrong:
            sys.exit("\n".join(wrong))
        if not options.no_install:
            install(wheels, Path(scratch) / "empty", options.constraints)


if __name__ == "__main__":
    main()
