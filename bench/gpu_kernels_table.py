"""The page of the documentation that shows what bench/gpu_kernels.py measured.

python bench/gpu_kernels_table.py bench/results/gpu_kernels_{h100,h200}.json > docs/reference/kernels.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = """# Kernels on a GPU

What the kernels of `mtopt-kernels` reach, beside torch's own and nvidia-modelopt's, as `bench/gpu_kernels.py`
measured it: medians of CUDA graph replays, random data, operands rotated past the L2 cache. Every result was
checked before it was timed: {wrong} wrong values against `mtcore.numerics` in {checked} formats of 58.7 million
values each.
`bench/gpu_kernels_notes.md` says what stops those that fall short, and what was changed since. The H200's figures
are later: on the H100, products of NVFP4 weights with one token had another kernel, and no compiled model was run.
"""
STREAMING = """
## Reading a matrix once, on one {device}

Share of the bandwidth of a copy, for 4096 x 14336 values in bf16.
"""
QUANTIZERS = """
## Through a quantizer, and nvidia-modelopt's kernels

On one {device}, eager, the same matrix: share of the bandwidth of a copy in the same run,
by the fewest bytes that must be moved.
"""
STATISTICS = """
## What calibration asks

On one {device}, of 4096 tokens x 14336 channels in bf16 (the transform of 4096: 14336 x 4096;
the product: 8192 tokens x 4096 channels). Microseconds, and the share of the copy's bandwidth, by the fewest bytes.
"""
PRODUCTS = """
## Products, on one {device}

How many times as fast as torch's: FP8 as `torch._scaled_mm` with the same scales (which
takes no blocks for one token), INT8 as `torch._int_mm` (which takes more than 16 tokens, and no scales), the others
as a product in bf16, the input's quantization included. "=": torch's own is taken. {noise}
A card at its limit of power slows from one product to the next of a large size, so there the order counts.
"""
NOISE = "The same call, timed twice in turn, gave ratios from {least:.2f} to {most:.2f}."
PAIRS = (
    ("FP8 by tensor", "fp8 ours", "fp8 cublas"), ("FP8 by row", "row ours", "row torch"),
    ("FP8 by block", "block ours", "block torch"), ("INT8 by row", "int8 ours", "int8 torch"),
    ("FP8 by tensor, from bf16", "fp8 with quantize", "bf16"),
    ("FP8 by row, from bf16", "row with quantize", "bf16"),
    ("INT8 by row, from bf16", "int8 with quantize", "bf16"), ("NVFP4 weights", "nvfp4", "bf16"),
    ("INT4 weights", "int4", "bf16"), ("torch's INT4 weights", "int4 torch", "bf16"),
)  # fmt: skip
"""Titles of columns, ours and torch's."""
HALF = """
## Weights of 4 bits, inputs in fp16

On one {device}, how many times as fast as a product in fp16.
"""
W4A8 = """
## NVFP4 weights, FP8 inputs

On one {device}, how many times as fast as a product in bf16, the input's quantization included, and how far
results were from float64 (of the weight as stored, times the input as rounded; ‖off‖ / ‖exact‖). With more than 256
tokens the weight is rounded once more, to FP8.
"""
MODELS = """
## A whole model, on one {device}

A random Llama of 8 layers, 2.0 B parameters, compressed: forwards of 512 tokens, or of 32 such
texts at once, and one more token of a text with a static cache; in a CUDA graph, as it is or under `torch.compile`.
"Early starts": Inductor's kernels begin before the last one has ended (`TORCHINDUCTOR_ENABLE_PDL=1`), in bf16 too.
"Layers alone": without computing those that read one value together.
"""
EAGER = '"Eager" is without a CUDA graph, where the host decides; bf16 was timed in turn with each recipe.\n'
COLUMNS = ("fake quantize, scales worked out", "fake quantize, scales given", "quantize", "dequantize")
PREFIXES = ("fake {} dynamic", "fake {} static", "quantize {}", "dequantize {}")


PEERS = {
    "TensorQuantizer fp8": "TensorQuantizer fp8", "TensorQuantizer nvfp4": "TensorQuantizer nvfp4",
    "TensorQuantizer int8_row": "TensorQuantizer int8_row", "TensorQuantizer mxfp8_e4m3": "TensorQuantizer mxfp8",
    "TensorQuantizer int4_b128": "TensorQuantizer int4_b128", "amax tensor": "reduce_amax tensor",
    "amax row": "reduce_amax row", "quantize fp8": "pack fp8", "quantize nvfp4": "pack nvfp4",
    "quantize mxfp8_e4m3": "pack mxfp8", "quantize int4_b128": "pack int4_b128", "dequantize nvfp4": "unpack nvfp4",
}  # fmt: skip
"""Our rows, and nvidia-modelopt's for the same."""

EAGERLY = "a token eager, bf16 in turn"
"""What rows have since eager models are timed in turn with bf16."""

Row = Mapping[str, Any]


def page(files: Sequence[Mapping[str, Any]]) -> str:
    """The page in markdown; each part from the first file that has it, but what several cards did from all."""
    wrong = [row for file in files for row in file["rows"] if row["name"].startswith("wrong values ")]
    checked = len({row["name"] for row in wrong})
    parts = [HEAD.format(wrong=sum(row["count"] for row in wrong), checked=checked)]
    for name, make in (
        ("streaming", streaming), ("quantizer", quantizers), ("statistics", statistics), ("products", products),
        ("fp16", half), ("w4a8", w4a8), ("model", models),
    ):  # fmt: skip
        for file in files:
            rows = [row for row in file["rows"] if part_of(row) == name]
            if rows:
                parts += make(file["device"], rows, {row["name"]: row for row in file["rows"]})
                if name not in ("streaming", "products", "model"):
                    break
    return "".join(parts)


def part_of(row: Row) -> str:
    """The part of the benchmark; the files of the first runs do not say it."""
    if "part" in row:
        return str(row["part"])
    if row["name"] == "product":
        return "products"
    return "model" if row["name"].startswith("model ") else "streaming"


def streaming(device: str, rows: Sequence[Row], named: Mapping[str, Row]) -> Iterator[str]:
    """Shares of a copy, by format and by block."""
    formats = [row["name"].removeprefix("wrong values ") for row in rows if row["name"].startswith("wrong values")]
    yield STREAMING.format(device=device)
    cells = [[name, *(share(named.get(prefix.format(name))) for prefix in PREFIXES)] for name in formats]
    yield from table(("format", *COLUMNS), cells)
    amax = [row for row in rows if row["name"].startswith("amax ")]
    yield from table(("largest magnitudes of", "share"), [[r["name"][5:], share(r)] for r in unique(amax)])


def quantizers(device: str, rows: Sequence[Row], named: Mapping[str, Row]) -> Iterator[str]:
    """Ours beside nvidia-modelopt's."""
    yield QUANTIZERS.format(device=device)
    cells = [
        [name, share(named[name]), share(named.get(f"modelopt {other}"))]
        for name, other in PEERS.items()
        if name in named
    ]
    yield from table(("", "mtopt-kernels", "nvidia-modelopt"), cells)


def statistics(device: str, rows: Sequence[Row], named: Mapping[str, Row]) -> Iterator[str]:
    """Ours beside torch's."""
    yield STATISTICS.format(device=device)
    cells = [
        [row["name"], f"{row['us']:.0f}", f"{named['torch, ' + row['name']]['us']:.0f}", share(row)]
        for row in rows
        if "us" in row and not row["name"].startswith("torch, ")
    ]
    yield from table(("", "mtopt-kernels", "torch", "share"), cells)


def products(device: str, rows: Sequence[Row], named: Mapping[str, Row]) -> Iterator[str]:
    """Times as fast as torch, for each size."""
    rows = [row for row in rows if row["name"] == "product"]
    noise = [row["fp8 cublas again"] / row["fp8 cublas"] for row in rows if "fp8 cublas again" in row]
    again = NOISE.format(least=min(noise), most=max(noise)) if noise else ""
    yield PRODUCTS.format(device=device, noise=again)
    cells = [
        [f"{row['tokens']}", f"{row['features']} x {row['inner']}", *(ratio(row, *pair[1:]) for pair in PAIRS)]
        for row in rows
    ]
    yield from table(("tokens", "weight", *(title for title, _, _ in PAIRS)), cells)


def ratio(row: Row, ours: str, other: str) -> str:
    """How many times as fast ours is."""
    if ours not in row or other not in row:
        return ""
    return "=" if ours in row.get("same", ()) else f"{row[other] / row[ours]:.2f}"


def half(device: str, rows: Sequence[Row], named: Mapping[str, Row]) -> Iterator[str]:
    """Times as fast as fp16, one line a number of tokens."""
    yield HALF.format(device=device)
    titles = [f"{title}, {f} x {i}" for title in ("NVFP4", "INT4") for f, i in layers_of(rows)]
    cells = {row["tokens"]: [f"{row['tokens']}"] for row in rows}
    for name in ("nvfp4", "int4"):
        for row in rows:
            cells[row["tokens"]].append(ratio(row, name, "fp16"))
    yield from table(("tokens", *titles), list(cells.values()))


def layers_of(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Features and inner dimensions, each once."""
    return list(dict.fromkeys((row["features"], row["inner"]) for row in rows))


def w4a8(device: str, rows: Sequence[Row], named: Mapping[str, Row]) -> Iterator[str]:
    """Times as fast as bf16, one line a number of tokens."""
    yield W4A8.format(device=device)
    layers = layers_of(rows)
    cells = {row["tokens"]: [f"{row['tokens']}"] for row in rows}
    for row in rows:
        cells[row["tokens"]].append(f"{ratio(row, 'nvfp4 fp8', 'bf16')} ({row['error']:.0e})")
    yield from table(("tokens", *(f"{features} x {inner}" for features, inner in layers)), list(cells.values()))


def models(device: str, rows: Sequence[Row], named: Mapping[str, Row]) -> Iterator[str]:
    """Times of a whole model, with the ratio to bf16."""
    yield MODELS.format(device=device)
    yield from [EAGER] if EAGERLY in rows[0] else []
    known = (
        "forward", "forward of 32", "a token", "forward compiled", "forward of 32 compiled", "a token compiled",
        "a token compiled, early starts",
    )  # fmt: skip
    titles = [title for title in known if title in rows[0]]
    titles += ["a token eager", "forward eager"] if EAGERLY in rows[0] else []
    cells = [
        [row["name"][6:], f"{row['gib']:.2f} GiB"] + [timed(row, rows[0], title) for title in titles]
        for row in rows
    ]
    yield from table(("recipe", "weights", *titles), cells)


def timed(row: Row, base: Row, title: str) -> str:
    """Milliseconds, and how many times as fast as the first row's, or as bf16 was in turn with it."""
    if title not in row:
        return ""
    return f"{row[title] / 1000:.2f} ms ({row.get(f'{title}, bf16 in turn', base[title]) / row[title]:.2f}x)"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a markdown table."""
    yield f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n"
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


def share(row: Row | None) -> str:
    """Of the copy's bandwidth."""
    return "" if row is None or "of_copy" not in row else f"{row['of_copy']:.2f}"


def unique(rows: Sequence[Row]) -> list[Row]:
    """The first of each name."""
    return list({row["name"]: row for row in reversed(rows)}.values())[::-1]


if __name__ == "__main__":
    print(page([json.loads(Path(name).read_text()) for name in sys.argv[1:]]), end="")
