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
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from children import run_all
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
    waiting = [a for a in wanted if (a.kind, a.name) not in known]
    for arch, found in run_all(waiting, examine, options.limit, options.jobs):
        row = {"kind": arch.kind, "name": arch.name, **found}
        rows.append(row)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in rows))
        print(row["kind"], row["name"], row.get("error", "done"), file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
