"""Kills a block-by-block run of the embedded model at random moments until it is done, and compares the bytes.

    python bench/kill_resume.py --kills 50 --recipe fp8

Each attempt is a process of its own, killed with SIGKILL after a random time; the next one is the same call. It
prints, and writes with --json, how many kills met which part of the run, and whether the bytes are those of an
unbroken run. With --statistics the run keeps statistics too, and theirs are compared as well.
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
from pathlib import Path
from typing import Any

from machine import machine

import mtopt_tinylm
from mtcore.flow import DataOptions, LayerwiseOptions, quantize_checkpoint
from mtcore.flow.layerwise import is_unfinished

DATA = DataOptions(samples=8, length=128)


def run(recipe: str, out: Path, statistics: bool) -> None:
    """One attempt."""
    quantize_checkpoint(
        str(mtopt_tinylm.checkpoint_dir()),
        recipe,
        out,
        calib=str(mtopt_tinylm.calibration_file()),
        data=DATA,
        layerwise=LayerwiseOptions(),
        statistics=kept(out) if statistics else None,
    )


def kept(out: Path) -> Path:
    """Where the statistics of a run lie."""
    return out.with_name(f"{out.name}-kept")


def content(folder: Path) -> dict[str, bytes]:
    """All files with their bytes."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def stage(out: Path) -> str:
    """What an unfinished run was doing, by its journal."""
    journal = out.with_name(f"{out.name}.run") / "journal.json"
    if not journal.exists():
        return "before the first block" if not out.exists() else "after the end"
    state = json.loads(journal.read_text())
    return "export" if state["exporting"] else f"{len(state['done'])} blocks done"


def measure(kills: int, recipe: str, statistics: bool, folder: Path) -> dict[str, Any]:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mtcore.flow", "mtopt_hf.load", "mtopt_hf.exporters", "torch._dynamo"])

    def start(out: Path) -> Any:
        process = processes.Process(target=run, args=(recipe, out, statistics))
        process.start()
        return process

    start(folder / "warm").join()
    begun = time.perf_counter()
    start(folder / "unbroken").join()
    length = time.perf_counter() - begun
    expected = content(folder / "unbroken"), content(kept(folder / "unbroken"))
    moments, met, finished = random.Random(0), Counter[str](), 0
    out = folder / "out"
    while sum(met.values()) < kills:
        process = start(out)
        process.join(moments.uniform(0, length))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            met[stage(out)] += 1
        if out.exists() and not is_unfinished(out):
            finished += 1
            assert (content(out), content(kept(out))) == expected, "a finished run has other bytes"
            shutil.rmtree(out)
            for rest in (kept(out), out.with_name("out.run")):  # of a kill in the very last step
                shutil.rmtree(rest, ignore_errors=True)
    process = start(out)
    process.join()
    same = process.exitcode == 0 and (content(out), content(kept(out))) == expected
    ours = {path.name for out in ("warm", "unbroken", "out") for path in (folder / out, kept(folder / out))}
    left = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    return {
        "machine": machine(),
        "recipe": recipe,
        "statistics": statistics,
        "kills": kills,
        "killed in": dict(sorted(met.items())),
        "runs that were done before the kill came, all with the same bytes": finished,
        "last run has the bytes of an unbroken one": same,
        "left over": left,
        "seconds of an unbroken run": round(length, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--recipe", default="fp8")
    parser.add_argument("--statistics", action="store_true", help="keep statistics, too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.kills, options.recipe, options.statistics, Path(folder))
    text = json.dumps(found, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
