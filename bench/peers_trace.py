"""Peer measurement: how many root graphs Model-Optimizer's tracer gives for the tiny causal language models.

    pip install nvidia-modelopt==0.47.0      # in an environment of its own
    python bench/peers_trace.py --json bench/results/peers_trace.json

Its `recursive_trace` never raises: a module that cannot be traced is taken as a leaf and its children are traced.
A model counts here when it could be traced itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers
from shrink import Architecture, architectures


def trace(arch: Architecture) -> dict[str, Any]:
    """Whether the root is traced, how many modules with children are, and the seconds it took."""
    from modelopt.torch.trace import recursive_trace

    try:
        model = arch.build()
    except Exception as error:  # noqa: BLE001  what transformers cannot build is no one's failure to trace
        return {"name": arch.name, "built": False, "why": f"{type(error).__name__}: {str(error)[:80]}"}
    start = time.process_time()
    graphs = recursive_trace(model)
    seconds = time.process_time() - start
    inner = [m for m in model.modules() if next(m.children(), None) is not None]
    good = [m for m in inner if not graphs.is_failed(m) and not graphs.is_unvisited(m)]
    why = graphs.failure_msg(model) if graphs.is_failed(model) else ""
    return {
        "name": arch.name,
        "built": True,
        "root": model in good,
        "inner": [len(good), len(inner)],
        "seconds": round(seconds, 3),
        "why": " ".join(str(why).split())[:80],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    rows = [trace(arch) for arch in architectures(("causal_lm",))]
    if options.json:
        options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    built = [row for row in rows if row["built"]]
    seconds = sorted(row["seconds"] for row in built)
    inner = [sum(row["inner"][i] for row in built) for i in (0, 1)]
    print(f"root graphs: {sum(row['root'] for row in built)} of {len(built)} built ({len(rows)} names)")
    print(f"modules with children: {inner[0]} of {inner[1]}")
    print(f"CPU seconds, median / p90: {statistics.median(seconds):.2f} / {seconds[int(0.9 * len(seconds))]:.2f}")
    print("failures:", Counter(row["why"] for row in built if not row["root"]).most_common(4))


if __name__ == "__main__":
    main()
