"""The page of the documentation that shows what bench/gpu_kernels.py measured.

python bench/gpu_kernels_table.py bench/results/gpu_kernels_h200.json > docs/reference/kernels.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = """# Kernels on a GPU

What the kernels of `mtopt-kernels` reach on one {device}, beside torch's own, as `bench/gpu_kernels.py` measured
it: medians of CUDA graph replays, random data, operands rotated past the L2 cache. Every result was checked before
it was timed: {wrong} wrong values against `mtcore.numerics` in {checked} formats of 58.7 million values each.
`bench/gpu_kernels_notes.md` says what stops those that fall short, and what was changed since.

## Reading a matrix once

Share of the bandwidth of a copy, for 4096 x 14336 values in bf16.
"""
PRODUCTS = """
## Products

How many times as fast as torch's: FP8 as `torch._scaled_mm` with the same scales (which takes no blocks for one
token), the others as a product in bf16, the input's quantization included.
"""
MODELS = """
## A whole model

A random Llama of 8 layers, 2.0 B parameters, compressed: 512 tokens, and one more token of a text with a static
cache; both in a CUDA graph, as they are and under `torch.compile`.
"""
COLUMNS = ("fake quantize, scales worked out", "fake quantize, scales given", "quantize", "dequantize")
PREFIXES = ("fake {} dynamic", "fake {} static", "quantize {}", "dequantize {}")


def page(device: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page in markdown."""
    named = {row["name"]: row for row in rows}
    formats = [name.removeprefix("wrong values ") for name in named if name.startswith("wrong values")]
    wrong = sum(named[f"wrong values {name}"]["count"] for name in formats)
    parts = [HEAD.format(device=device, wrong=wrong, checked=len(formats))]
    cells = [[name, *(share(named.get(prefix.format(name))) for prefix in PREFIXES)] for name in formats]
    parts += table(("format", *COLUMNS), cells)
    amax = [row for row in rows if row["name"].startswith("amax ")]
    parts += table(("largest magnitudes of", "share"), [[r["name"][5:], share(r)] for r in unique(amax)])
    parts += products([row for row in rows if row["name"] == "product"])
    parts += models([row for row in rows if row["name"].startswith("model ")])
    return "".join(parts)


def products(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Times as fast as torch, for each size."""
    yield PRODUCTS
    pairs = (
        ("by tensor", "fp8 ours", "fp8 cublas"), ("by row", "row ours", "row torch"),
        ("by block", "block ours", "block torch"), ("FP8 by tensor, from bf16", "fp8 with quantize", "bf16"),
        ("FP8 by row, from bf16", "row with quantize", "bf16"), ("NVFP4 weights", "nvfp4", "bf16"),
        ("torch's INT4 weights", "int4 torch", "bf16"),
    )  # fmt: skip
    cells = [
        [f"{row['tokens']}", f"{row['features']} x {row['inner']}"]
        + [f"{row[other] / row[ours]:.2f}" if ours in row and other in row else "" for _, ours, other in pairs]
        for row in rows
    ]
    yield from table(("tokens", "weight", *(title for title, _, _ in pairs)), cells)


def models(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Times of a whole model, with the ratio to bf16."""
    yield MODELS
    titles = ("forward", "a token", "forward compiled", "a token compiled")
    cells = [
        [row["name"][6:], f"{row['gib']:.2f} GiB"]
        + [f"{row[title] / 1000:.2f} ms ({rows[0][title] / row[title]:.2f}x)" for title in titles]
        for row in rows
    ]
    yield from table(("recipe", "weights", *titles), cells)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a markdown table."""
    yield f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n"
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


def share(row: Mapping[str, Any] | None) -> str:
    """Of the copy's bandwidth."""
    return "" if row is None else f"{row['of_copy']:.2f}"


def unique(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first of each name."""
    return list({row["name"]: row for row in reversed(rows)}.values())[::-1]


if __name__ == "__main__":
    found = json.loads(Path(sys.argv[1]).read_text())
    print(page(found["device"], found["rows"]), end="")
