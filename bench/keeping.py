"""What it costs to keep statistics while they are gathered, and what a kill then costs: on the embedded model.

    python bench/keeping.py --batches 128

Gathers the statistics of random tokens, without products Σ x xᵀ and with them, at the pace of mtcore/flow/pace.py.
Prints, and writes with --json, how often they were kept, how large they are, what part of the time that took, and
the longest time between two keepings, which is what a kill loses at most.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from machine import machine
from report import report

import mtopt_tinylm
from mtcore.calibration.statistics import StatisticsStore, Unfinished
from mtcore.flow import quantize_checkpoint

TOKENS = (4, 512)


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(0, 256, TOKENS, generator=generator)} for _ in range(count)]


Spans = list[tuple[float, float]]


@contextmanager
def watched(spans: Spans, sizes: list[int]) -> Iterator[None]:
    """Notes when each keeping begins and ends, and its bytes."""
    keep = StatisticsStore.keep_unfinished

    def timed(store: StatisticsStore, unfinished: Unfinished) -> None:
        begun = time.perf_counter()
        keep(store, unfinished)
        spans.append((begun, time.perf_counter()))
        sizes.append(sum(file.stat().st_size for file in store.directory.glob("unfinished*")))

    StatisticsStore.keep_unfinished = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        StatisticsStore.keep_unfinished = keep  # type: ignore[method-assign]


def measure(count: int, products: bool) -> dict[str, Any]:
    """A run on so many batches, its keepings included."""
    spans, sizes = Spans(), list[int]()
    with tempfile.TemporaryDirectory() as folder, watched(spans, sizes):
        begun = time.perf_counter()
        quantize_checkpoint(
            str(mtopt_tinylm.checkpoint_dir()),
            "fp8",
            Path(folder, "out"),
            calib=batches(count),
            statistics=Path(folder, "kept"),
            products=products,
        )
        seconds = time.perf_counter() - begun
    inside = sum(end - begun for begun, end in spans)
    waits = [after[0] - before[1] for before, after in pairwise(spans)]
    return {
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "products": products,
        "batches": count,
        "tokens of a batch": TOKENS[0] * TOKENS[1],
        "seconds": round(seconds, 1),
        "times kept": len(spans),
        "MB": round(max(sizes, default=0) / 1e6, 1),
        "seconds of one time": round(inside / max(1, len(spans)), 3),
        "share of the time": round(inside / seconds, 4),
        "longest time between two": round(max(waits, default=0.0), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=128)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = [measure(options.batches, products) for products in (False, True)]
    report(found, options.json)


if __name__ == "__main__":
    main()
