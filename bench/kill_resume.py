"""Kills runs of the embedded model at random moments until they are done, and compares the bytes.

    python bench/kill_resume.py --kills layerwise=50 quantize=20 search=20

Each attempt is a process of its own, killed with SIGKILL after a random time, a short one more often than a long
one; the next one is the same call. Jobs are `layerwise`, a run block by block that keeps statistics too;
`quantize`, one on the whole model that keeps them; and `search`. The last two keep what the data told for half of
their time (it is a fiftieth as a rule), so that kills meet the writing. It prints, and writes with --json, how many
kills met which part of the run, and whether the bytes, also of what is kept, are those of an unbroken run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import machine
from report import report

import mtopt_tinylm
from mtcore.files import whole_file
from mtcore.flow import DataOptions, LayerwiseOptions, pace, quantize_checkpoint, search_checkpoint
from mtcore.flow.layerwise import is_unfinished

DATA = DataOptions(samples=8, length=128)
MORE_DATA = DataOptions(samples=16, length=128, batch_size=1)
SOURCE, TEXT = str(mtopt_tinylm.checkpoint_dir()), str(mtopt_tinylm.calibration_file())


def layerwise(out: Path) -> None:
    """One attempt block by block."""
    options: dict[str, Any] = {"calib": TEXT, "data": DATA, "statistics": kept(out)}
    quantize_checkpoint(SOURCE, "fp8", out, layerwise=LayerwiseOptions(), **options)


def quantize(out: Path) -> None:
    """One attempt on the whole model."""
    pace.EVERY_SECONDS, pace.SHARE = 0, 1
    quantize_checkpoint(SOURCE, "fp8", out, calib=TEXT, data=MORE_DATA, statistics=kept(out))


def search(out: Path) -> None:
    """One attempt to find a recipe, which is written as the command does."""
    pace.EVERY_SECONDS, pace.SHARE = 0, 1
    found = search_checkpoint(SOURCE, ("nvfp4", "fp8"), calib=TEXT, data=MORE_DATA, statistics=kept(out))
    with whole_file(out) as file:
        file.write(found.recipe(found.searcher.solve(bits=6)).encode())


JOBS: dict[str, Callable[[Path], None]] = {"layerwise": layerwise, "quantize": quantize, "search": search}


def kept(out: Path) -> Path:
    """Where the statistics of a run lie."""
    return out.with_name(f"{out.name}-kept")


def content(out: Path) -> dict[str, bytes]:
    """What a run made, and what it kept: all files with their bytes."""
    found = [file for place in (out, kept(out)) for file in (place, *place.rglob("*")) if file.is_file()]
    return {f"{file.relative_to(out.parent)}".removeprefix(out.name): file.read_bytes() for file in found}


def done(out: Path) -> bool:
    return out.exists() and not is_unfinished(out)


def remove(out: Path) -> None:
    """All of a run, also what a kill in its very last step left."""
    for place in (out, kept(out), out.with_name(f"{out.name}.run")):
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def stage(job: str, out: Path) -> str:
    """What a killed run was doing, by what it left."""
    if out.exists() and job != "layerwise":
        return "after the end"
    if job == "layerwise":
        journal = out.with_name(f"{out.name}.run") / "journal.json"
        if not journal.exists():
            return "before the first block" if not out.exists() else "after the end"
        state = json.loads(journal.read_text())
        return "export" if state["exporting"] else f"{len(state['done'])} blocks done"
    if any(kept(out).glob("scores-*.json")):
        return "while scoring"
    if (kept(out) / "statistics.json").exists():
        return "after the statistics"
    return "in the statistics" if (kept(out) / "unfinished.json").exists() else "before anything was kept"


def measure(job: str, kills: int, folder: Path) -> dict[str, Any]:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mtcore.flow", "mtopt_hf.load", "mtopt_hf.exporters", "torch._dynamo"])

    def start(out: Path) -> Any:
        process = processes.Process(target=JOBS[job], args=(out,))
        process.start()
        return process

    start(folder / "warm").join()
    begun = time.perf_counter()
    start(folder / "unbroken").join()
    length = time.perf_counter() - begun
    expected = content(folder / "unbroken")
    moments, met, finished = random.Random(0), Counter[str](), 0
    out = folder / "out"
    while sum(met.values()) < kills:
        process = start(out)
        process.join(length * moments.random() ** moments.choice((1, 2)))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            met[stage(job, out)] += 1
        if done(out):
            finished += 1
            assert content(out) == expected, "a finished run has other bytes"
            remove(out)
    process = start(out)
    process.join()
    same = process.exitcode == 0 and content(out) == expected
    ours = {path.name for out in ("warm", "unbroken", "out") for path in (folder / out, kept(folder / out))}
    left = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    return {
        "kills": kills,
        "killed in": dict(sorted(met.items())),
        "runs that were done before the kill came, all with the same bytes": finished,
        "last run has the bytes of an unbroken one": same,
        "left over": left,
        "seconds of an unbroken run": round(length, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", nargs="+", metavar="JOB=N", default=["layerwise=50", "quantize=20", "search=20"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    for asked in options.kills:
        job, _, kills = asked.partition("=")
        with tempfile.TemporaryDirectory() as folder:
            found[job] = measure(job, int(kills), Path(folder))
    report(found, options.json)


if __name__ == "__main__":
    main()
