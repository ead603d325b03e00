#!/usr/bin/env python3
"""From an empty directory to a plugin whose number format quantizes a model: every command, its output, its time.

    python bench/plugin_afternoon.py                     # prints the transcript
    python bench/plugin_afternoon.py --docs docs/how-to/write-a-plugin.md   # and puts it there, between the markers

It fails if any step does not do what it should: also if a wrong entry in the table of values goes unnoticed. The
plugin is installed into an environment of its own, which sees the packages of the one that runs the script.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from machine import machine

import mtopt_tinylm

NAME, PACKAGE = "acme-quant", "acme_quant"
SOURCE, TESTS = f"src/{PACKAGE}", "tests"

EDITS = (
    (f"{SOURCE}/formats.py", "E2M2 = TensorFormat(", "E3M2 = TensorFormat("),
    (f"{SOURCE}/formats.py", '    "acme-quant-e2m2",', '    "acme-quant-e3m2",'),
    (f"{SOURCE}/formats.py", "FloatElement(exponent_bits=2,", "FloatElement(exponent_bits=3,"),
    (f"{SOURCE}/formats.py", "5-bit floats", "6-bit floats"),
    (f"{SOURCE}/hooks.py", "formats import E2M2", "formats import E3M2"),
    (f"{SOURCE}/hooks.py", "yield E2M2", "yield E3M2"),
    (f"{SOURCE}/exporters.py", "SPELLING = {", 'SPELLING = {"acme-quant-e3m2": "6-bit float codes", '),
    (f"{SOURCE}/recipes.py", "weight: fp8", "weight: acme-quant-e3m2"),
)
"""File, what stands there, what shall stand there: eight lines of source."""

TEST_EDITS = (
    (f"{TESTS}/test_formats.py", "formats import E2M2", "formats import E3M2"),
    (f"{TESTS}/test_formats.py", "return E2M2", "return E3M2"),
    (
        f"{TESTS}/test_formats.py",
        "POSITIVE = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7]",
        "POSITIVE = [0, 0.0625, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.4375, 0.5, 0.625, 0.75, 0.875, 1, 1.25,"
        "\n            1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28]",
    ),
    (f"{TESTS}/test_recipes.py", '("weight", "fp8")', '("weight", "acme-quant-e3m2")'),
)
"""And what the tests state: the name, and the value of every code."""

WRONG = ((f"{TESTS}/test_formats.py", "20, 24, 28]", "20, 24, 26]"),)


@dataclass
class Transcript:
    """Commands with what they print; a command that ends otherwise than it should stops the script."""

    folder: Path
    environment: dict[str, str]
    lines: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def run(self, command: str, *, code: int = 0, show: str = ".*", last: int = 40) -> str:
        """Run a command line. `show`: only lines that match this are kept, and of those the last ones."""
        start = time.perf_counter()
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        took = time.perf_counter() - start
        output = done.stdout + done.stderr
        if done.returncode != code:
            sys.exit(f"{command}: exit code {done.returncode}, expected {code}\n{output}")
        self.seconds += took
        kept = [line.rstrip() for line in output.splitlines() if re.search(show, line)][-last:]
        self.lines += [f"$ {command}  # {took:.1f} s", *kept]
        print("\n".join([self.lines[-len(kept) - 1], *kept]), flush=True)
        return output

    def edit(self, edits: tuple[tuple[str, str, str], ...]) -> None:
        """Change lines, and write the difference down."""
        for file, old, new in edits:
            path = self.folder / NAME / file
            text = path.read_text(encoding="utf-8")
            if text.count(old) != 1:
                sys.exit(f"{file}: {old!r} stands there {text.count(old)} times")
            changed = text.replace(old, new)
            before, after = (set(t.splitlines()) for t in (text, changed))
            if [line for line in self.lines if line.startswith(("# ", "$ "))][-1] != f"# {file}":
                self.lines.append(f"# {file}")
            self.lines += [f"- {line}" for line in text.splitlines() if line not in after]
            self.lines += [f"+ {line}" for line in changed.splitlines() if line not in before]
            path.write_text(changed, encoding="utf-8")


def environment_of(folder: Path) -> dict[str, str]:
    """A new virtual environment that sees the packages of this one; the variables of a shell in it."""
    venv = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    [site] = venv.glob("lib/python*/site-packages")
    paths = [entry for entry in sys.path if entry.endswith("site-packages")]
    (site / "inherited.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in paths))
    for name, module in {"mtopt": "mtcore.cli.main", "pytest": "pytest", "pip": "pip._internal.cli.main"}.items():
        program = venv / "bin" / name
        program.write_text(f"#!{venv}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        program.chmod(0o755)
    path = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # An index is not needed: setuptools comes with the environment, and every dependency is there.
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return {**os.environ, **offline, "PATH": path, "MODEL": str(mtopt_tinylm.checkpoint_dir())}


def untouched(steps: Transcript) -> None:
    """A plugin with every part is in order without an edit."""
    steps.run(f"mtopt new-plugin {NAME}", show=r"\.py|\.toml")
    steps.run(f"pip install -e {NAME}", show="Successfully")
    steps.run("mtopt plugins doctor", show="acme|in order")
    steps.run(f"cd {NAME} && pytest -q", show="passed")


def where() -> str:
    """The machine and the versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("mtcore", "torch"))
    return f"{machine()}, Python {platform.python_version()}, {versions}"


def main() -> None:
    """Run all steps in an empty directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", type=Path, help="a page with the markers <!-- transcript --> and <!-- end -->")
    parser.add_argument("--untouched", action="store_true", help="only write, install and test one with all parts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        steps = Transcript(folder, environment_of(folder))
        if options.untouched:
            untouched(steps)
            return
        steps.run(f"mtopt new-plugin {NAME} --with format,exporter,recipe", show=r"\.py|\.toml")
        steps.run(f"pip install -e {NAME}", show="Successfully")
        steps.run("mtopt plugins doctor", show="acme|exporters: acme|in order")
        steps.run(f"cd {NAME} && pytest -q", show="passed")
        steps.edit(EDITS)
        steps.edit(TEST_EDITS)
        steps.run("mtopt formats", show="acme")
        recipe = "acme-quant-half"
        steps.run(f"mtopt plan $MODEL --recipe {recipe}", last=6)
        steps.run(f"mtopt quantize $MODEL --recipe {recipe} --dialect acme-quant-plain -o out", last=8)
        steps.run("head -4 out/layout.json")
        steps.run(f"cd {NAME} && pytest -q", show="passed")
        steps.edit(WRONG)
        steps.run(f"cd {NAME} && pytest -q", code=1, show="^E .*first differing|failed,")
    places = {str(folder): "…", steps.environment["MODEL"]: "$MODEL"}
    text = "\n".join(steps.lines)
    for place, shown in places.items():
        text = text.replace(place, shown)
    print(f"\n{steps.seconds:.0f} s of commands; {where()}")
    if options.docs:
        page = options.docs.read_text(encoding="utf-8")
        closing = f"{steps.seconds:.0f} s of commands; {where()}."
        block = f"<!-- transcript -->\n```text\n{text}\n```\n\n{closing}\n<!-- end -->"
        changed = re.sub("<!-- transcript -->.*<!-- end -->", lambda _: block, page, flags=re.DOTALL)
        options.docs.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
