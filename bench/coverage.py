"""Benchmark: quantize tiny instances of every architecture, write them, and open them in transformers again.

    pip install -r bench/requirements.txt
    python bench/coverage.py --json bench/results/coverage.json --resume
    python bench/coverage.py --json bench/results/coverage.json --peer modelopt=VENV/bin/python
    python bench/coverage.py --json bench/results/coverage.json --table

A model with random parameters is saved as a checkpoint; every tool loads that, quantizes it and writes it, and its
clients open what it wrote. One child process a model, tool and recipe. The JSON has one row a line and is
written after every row; `--resume` skips the rows that it has. A peer runs in an environment of its own, by the
same script, on the same checkpoints.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from children import Row, failure, rounded, run_all
from coverage_case import Case, judge
from coverage_client import FACTOR, UNIT, compare, open_client

LIMIT_S = 240
TOOLS = ("ours", "modelopt", "llmcompressor")
RECIPES = ("fp8", "nvfp4", "int4")


@dataclass(frozen=True)
class Job:
    """One recipe of one tool on one case."""

    case: Case
    tool: str
    recipe: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.case.kind, self.case.name, self.tool, self.recipe


def attempt(job: Job) -> Row:
    """How far the tool comes: nothing, built, exported; and what each client makes of that."""
    tool = import_module(f"coverage_{job.tool}")
    row: Row = {"step": "nothing"}
    class_name = json.loads((job.case.source / "config.json").read_text())["architectures"][0]
    with tempfile.TemporaryDirectory() as scratch, tool.quiet():
        out = Path(scratch) / "out"
        try:
            loaded = tool.build(job.case)
            row["step"] = "built"
            references, facts = tool.quantize(loaded, job.case, job.recipe, out)
            judged = judge(job.case, out, facts.pop("reported", ()))
            row |= {"step": "exported", **facts, **judged}
        except Exception as error:  # noqa: BLE001  whatever a tool raises is its row in the table
            return row | {"why": failure(error)}
        for client, opened in tool.CLIENTS.items():
            if client in references:
                unit = tool.UNITS.get(job.recipe, UNIT)
                row[client] = check(out, class_name, references[client], job.case.inputs(), opened, unit)
    return row


def check(out: Path, class_name: str, reference: Any, inputs: dict[str, Any], opened: Any, unit: float) -> Row:
    """What one client makes of a directory: "equal", "differs", or "fails" with the reason."""
    try:
        with opened():
            found = compare(reference, open_client(out, class_name), inputs, unit)
    except Exception as error:  # noqa: BLE001  as above
        return {"result": "fails", "why": failure(error)}
    return rounded({"result": "equal" if found["difference"] <= found["bound"] else "differs", **found})


def prepare(kinds: list[str], names: str, work: Path) -> Iterator[tuple[Case, str]]:
    """Save every model that is not there yet; gives the case, and why it could not be saved."""
    from torchvision_stub import import_torchvision

    import_torchvision()
    from shrink import architectures

    def save(pair: tuple[Any, Case]) -> Row:
        arch, case = pair
        model = arch.build()
        inputs = arch.inputs(model)
        model(**inputs)
        case.save(model, inputs)
        return {}

    wanted = [a for a in architectures(tuple(kinds)) if re.search(names, a.name)]
    pairs = [(a, Case(a.kind, a.name, work / a.kind / a.name)) for a in wanted]
    for _, case in pairs:
        if (case.folder / "inputs.json").exists():
            yield case, ""
        else:
            shutil.rmtree(case.folder, ignore_errors=True)
            case.folder.mkdir(parents=True)
    new = [pair for pair in pairs if not (pair[1].folder / "inputs.json").exists()]
    for (_, case), row in run_all(new, save, LIMIT_S):
        yield case, row.get("error", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="causal_lm")
    parser.add_argument("--names", default="", help="a regular expression")
    parser.add_argument("--tool", choices=TOOLS, default="ours")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--peer", action="append", default=[], metavar="TOOL=PYTHON", help="run a peer as well")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "mtcore-coverage")
    parser.add_argument("--limit", type=int, default=LIMIT_S, help="CPU seconds of one child")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="keep the rows of the JSON, run only the others")
    parser.add_argument("--table", action="store_true", help="print the page of the JSON, run nothing")
    options = parser.parse_args()
    if options.table:
        from coverage_table import page

        print(page(read(options.json), FACTOR))
        return
    run_tool(options)
    for peer in options.peer:
        tool, _, python = peer.partition("=")
        command = [python, __file__, "--tool", tool, "--resume", *shared(options)]
        subprocess.run(command, check=True)


def shared(options: argparse.Namespace) -> list[str]:
    """What a peer's process is told of our options."""
    names = ("kinds", "names", "recipes", "work", "limit", "jobs", "json")
    return [word for name in names for word in (f"--{name}", str(getattr(options, name)))]


def run_tool(options: argparse.Namespace) -> None:
    """Every recipe of one tool on every case, and a row of each into the JSON."""
    rows = read(options.json)
    cases = []
    known = {key(r) for r in rows} if options.resume else set()
    kinds, recipes = options.kinds.split(","), options.recipes.split(",")
    if options.tool == "ours":
        for case, why in prepare(kinds, options.names, options.work):
            cases.append(case)
            for recipe in recipes if why else ():
                put(options.json, rows, {**name(Job(case, "ours", recipe)), "step": "not built", "why": why})
                known.add((case.kind, case.name, "ours", recipe))
    else:
        folders = sorted(f.parent for kind in kinds for f in (options.work / kind).glob("*/inputs.json"))
        cases = [Case(f.parent.name, f.name, f) for f in folders if re.search(options.names, f.name)]
    jobs = [Job(case, options.tool, recipe) for case in cases for recipe in recipes]
    jobs = [job for job in jobs if job.key not in known]
    if jobs:
        warm_up(jobs[0].tool)
    for job, row in run_all(jobs, attempt, options.limit, options.jobs):
        if "error" in row:
            row = {"step": "nothing", "why": row.pop("error"), **row}
        put(options.json, rows, {**name(job), **row})
        told = {client: row[client]["result"] for client in ("transformers", "mtopt_hf") if client in row}
        print(*job.key, row["step"], told, row.get("why", ""), file=sys.stderr, flush=True)


def warm_up(tool: str) -> None:
    """Imports, once for all children."""
    with contextlib.suppress(ImportError):
        import transformers

        transformers.logging.set_verbosity_error()
    import_module(f"coverage_{tool}")


def name(job: Job) -> Row:
    return dict(zip(("kind", "name", "tool", "recipe"), job.key, strict=True))


def key(row: Row) -> tuple[str, str, str, str]:
    return row["kind"], row["name"], row["tool"], row["recipe"]


def read(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def put(file: Path, rows: list[Row], row: Row) -> None:
    """Into the list and the file, in the place of an earlier row of the same key."""
    rows[:] = [r for r in rows if key(r) != key(row)] + [row]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in rows))


if __name__ == "__main__":
    main()
