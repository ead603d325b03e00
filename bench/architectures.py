"""Benchmark: trace tiny instances of every architecture of transformers and of families of timm.

    pip install -r bench/requirements.txt        # timm, for kind timm and the models that use it
    python bench/architectures.py --json bench/results/architectures.json --resume
    python bench/architectures.py --json bench/results/architectures.json --table

Each child process builds a model with random parameters, records and replays it, finds the groups and proves them:
all folds at once, and one by one, and removals, as far as 20 CPU seconds go. The rest is counted as not tried.
The JSON has one row a line and is written after every row; `--resume` skips the rows that it has.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch
from examine import Model, examine
from table import table
from torchvision_stub import import_torchvision

LIMIT_S = 150


def models(kinds: list[str]) -> Iterator[Model]:
    """Every name of the kinds, in the order of the mappings."""
    import_torchvision()
    from shrink import KINDS, architectures
    from timm_models import timm_models

    yield from architectures(tuple(k for k in kinds if k in KINDS))
    if "timm" in kinds:
        yield from timm_models()


def _child(arch: Model, pipe: Any, limit: int) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + limit, used + limit))
    try:
        pipe.send(examine(arch))
    except Exception as error:  # noqa: BLE001  whatever a model raises is its row in the table
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = " ".join(str(error).split())[:200]
        pipe.send({"error": f"{type(error).__name__}: {message} ({Path(where.filename).name}:{where.lineno})"})
    pipe.close()


def run_all(wanted: list[Model], limit: int, jobs: int) -> Iterator[dict[str, Any]]:
    """`examine` in forked children, `jobs` at a time; a dead or late child is a row too.

    One thread forks them all: a fork beside another thread can inherit a held lock.
    """
    fork = multiprocessing.get_context("fork")
    waiting, running = list(reversed(wanted)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            arch = waiting.pop()
            ours, theirs = fork.Pipe(duplex=False)
            child = fork.Process(target=_child, args=(arch, theirs, limit), daemon=True)
            child.start()
            theirs.close()
            running[ours] = (arch, child, time.perf_counter())
        ready = connection.wait(list(running), timeout=0.2)
        for pipe in list(running):
            arch, child, start = running[pipe]
            seconds = time.perf_counter() - start
            if pipe in ready:
                try:
                    result = pipe.recv()
                except EOFError:
                    result = {"error": f"the child died, of its limit of {limit} s of CPU time or of a crash"}
            elif seconds > 10 * limit:
                result = {"error": f"no answer after {seconds:.0f} s"}
            else:
                continue
            child.kill()
            child.join()
            pipe.close()
            del running[pipe]
            yield _rounded({"kind": arch.kind, "name": arch.name, "wall_s": seconds, **result})


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="causal_lm,encoder,seq2seq,vision,detection,speech,timm")
    parser.add_argument("--names", default="", help="a regular expression")
    parser.add_argument("--limit", type=int, default=LIMIT_S, help="CPU seconds of one child")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="keep the rows of the JSON, run only the others")
    parser.add_argument("--table", action="store_true", help="print the table of the JSON, run nothing")
    options = parser.parse_args()
    rows = [json.loads(x) for x in options.json.read_text().splitlines()] if options.json.exists() else []
    if options.table:
        print(table(rows))
        return
    wanted = [a for a in models(options.kinds.split(",")) if re.search(options.names, a.name)]
    names = {(a.kind, a.name) for a in wanted}
    if not options.resume:
        rows = [r for r in rows if (r["kind"], r["name"]) not in names]
    known = {(r["kind"], r["name"]) for r in rows}
    import transformers

    transformers.logging.set_verbosity_error()
    examine(next(a for a in models(["causal_lm"]) if a.name == "llama"))  # imports, once for all children
    for row in run_all([a for a in wanted if (a.kind, a.name) not in known], options.limit, options.jobs):
        rows.append(row)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in rows))
        print(row["kind"], row["name"], row.get("error", "done"), file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
