"""Counts the codes and scales in which mtcore and nvidia-modelopt differ on the same tensors, and says why.

The peer runs in an environment of its own under .cache/, made on the first run. Every differing code must fall
under a stated cause that is checked on that very element; one that falls under none makes the script fail.
Run: `OMP_NUM_THREADS=1 python bench/compare_modelopt.py [--json FILE] [--markdown FILE]`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from machine import machine
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtcore.formats import TensorFormat, builtin_formats
from mtcore.numerics import QTensor, block_amax, dynamic_qparams, encode, quantize, to_blocks, unpack

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".cache" / "modelopt-0.47"
PACKAGES = ("nvidia-modelopt==0.47.*", "torch", "requests", "huggingface_hub", "safetensors", "numpy")

CAUSES = {
    "zero sign": "It gives every zero the code of -0 (its sign bit is (2 - sign(x)) // 2, which is 1 for x = 0).",
    "zero block": "It divides by the scale of a block of zeros without a guard; 0/0 is NaN, cast to an integer.",
    "tiny block": "It treats an amax of at most 2^-24 as zero, so that such a block becomes zeros.",
    "scale": "The block's scale differs, see the column of scales.",
    "tie": "It rounds a value midway between two E2M1 values down; we round to the even code, as its NVFP4 does.",
    "table": "Its code book holds the values to four digits in bf16, so that its midpoints lie elsewhere.",
    "input dtype": "It works out the scale and the quotient in bf16, the dtype of the tensor; we work in fp32.",
    "reciprocal": "It multiplies by max/amax where we divide by amax/max; the two differ in the last bit of fp32.",
    "unexplained": "None of the above.",
}
SCALE_CAUSES = {
    "zero block": "The scale of a block of zeros: 1.0 here; 2^-127, zero or infinity there.",
    "log2": "ceil(log2(amax/max)) in fp32 is one too low just above a power of two; we read the exponent's bits.",
    "input dtype": "A scale in bf16, the dtype of the tensor; ours is fp32.",
    "unexplained": "None of the above.",
}


@dataclass
class Row:
    """What differs for one format on one tensor."""

    format: str
    peer: str
    tensor: str
    codes: int
    codes_differ: int
    code_causes: dict[str, int]
    scales: int
    scales_differ: int
    scale_causes: dict[str, int] = field(default_factory=dict)


def tensors() -> dict[str, Tensor]:
    """Matrices [256, 1024] that between them meet every convention."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(256, 1024, generator=generator)
    tails = normal / torch.rand(256, 1024, generator=generator).clamp(min=1e-3)
    with_zeros = normal.clone()
    with_zeros[:, ::3] = 0.0
    with_zeros[::5, 256:512] = 0.0
    halves = torch.randint(-12, 13, (256, 1024), generator=generator) / 4
    halves[:, ::16] = 6.0
    powers = torch.ldexp(torch.ones(256), torch.arange(256) % 40 - 20)
    targets = torch.tensor([6.0, 448.0]).repeat_interleave(32).repeat(16)
    above = torch.nextafter(powers[:, None] * targets, torch.tensor(torch.inf))
    ratio = torch.rand(256, 1024, generator=generator) * (torch.arange(1024) % 32 != 0) + (
        torch.arange(1024) % 32 == 0
    )
    return {
        "normal fp32": normal,
        "normal bf16": normal.bfloat16(),
        "std 2e-6 bf16": (normal * 2e-6).bfloat16(),
        "std 1e-9 fp32": normal * 1e-9,
        "heavy tails fp32": tails,
        "zeros and zero blocks fp32": with_zeros,
        "ties fp32": halves,
        "just above powers of two fp32": above * ratio.clamp(max=1),
    }


def low_nibble_first(packed: Tensor, shape: torch.Size) -> Tensor:
    return unpack(packed.reshape(shape[0], -1), 4, shape[1])


def high_nibble_first(packed: Tensor, shape: torch.Size) -> Tensor:
    return torch.stack((packed >> 4, packed & 15), dim=-1).reshape(shape)


def as_bytes(codes: Tensor, shape: torch.Size) -> Tensor:
    return codes.view(torch.uint8).reshape(shape)


@dataclass(frozen=True)
class Job:
    """One of the worker's jobs: our format, the peer's name, its codes in our convention, and possible causes."""

    format: str
    peer: str
    codes: Callable[[dict[str, Tensor], QTensor, Tensor], Tensor]
    causes: tuple[str, ...] = ()
    scale: Callable[[dict[str, Tensor]], Tensor] | None = lambda parts: parts["scale"]


def fake_codes(parts: dict[str, Tensor], q: QTensor, x: Tensor) -> Tensor:
    """The codes behind fake-quantized values: these lie near the values of our codes, never midway."""
    units = to_blocks(parts["values"], q.format.block).float() / q.qparams.multiplier()[:, None, :, None]
    return as_bytes(encode(units, q.format.element), x.shape)


JOBS = {
    "nvfp4": Job("nvfp4", "NVFP4QTensor", lambda p, q, x: low_nibble_first(p["qdata"], x.shape)),
    "mxfp4": Job(
        "mxfp4",
        "MXFP4QTensor",
        lambda p, q, x: low_nibble_first(p["qdata"], x.shape),
        ("zero sign", "scale", "tie"),
    ),
    "mxfp8": Job("mxfp8_e4m3", "MXFP8QTensor", lambda p, q, x: as_bytes(p["qdata"], x.shape), ("scale",)),
    "int4": Job(
        "int4_b128",
        "INT4QTensor",
        lambda p, q, x: high_nibble_first(p["qdata"], x.shape) ^ 8,  # offset 8 to two's complement
        ("zero block", "input dtype", "reciprocal"),
        None,
    ),
    "nf4": Job(
        "nf4", "NF4QTensor", lambda p, q, x: high_nibble_first(p["qdata"], x.shape), ("zero block", "table")
    ),
    "fp8": Job("fp8", "FP8QTensor", lambda p, q, x: as_bytes(p["qdata"], x.shape), ("input dtype",)),
    "fp8_row": Job(
        "fp8_row", "FP8QTensor, axis 0", lambda p, q, x: as_bytes(p["qdata"], x.shape), ("input dtype",)
    ),
    "fp8_tile": Job(
        "fp8_128x128", "FP8QTensor, 128x128", lambda p, q, x: as_bytes(p["qdata"], x.shape), ("input dtype",)
    ),
    "int8_row": Job(
        "int8_row", "INT8QTensor, axis 0", lambda p, q, x: as_bytes(p["qdata"], x.shape), ("input dtype",)
    ),
    "fake_int8_row": Job("int8_row", "fake quantization, INT8", fake_codes, ("tiny block", "reciprocal"), None),
    "fake_fp8": Job("fp8", "fake quantization, FP8", fake_codes, ("tiny block", "reciprocal"), None),
}


def compare(job: Job, fmt: TensorFormat, name: str, x: Tensor, parts: dict[str, Tensor]) -> Row:
    q = quantize(x, dynamic_qparams(x, fmt))
    ours = unpack(q.qdata, fmt.element.bits, q.cols).view(torch.uint8)
    theirs = job.codes(parts, q, x)
    differs = ours != theirs
    grid = fmt.block.grid(*x.shape)
    amax = block_amax(x, fmt.block)
    scale_differs = torch.zeros(grid, dtype=torch.bool)
    scale_causes: dict[str, int] = {}
    if job.scale is not None:
        other, own = job.scale(parts).reshape(grid), q.qparams.scale
        scale_differs = (
            other.view(torch.uint8) != own.view(torch.uint8) if own.element_size() == 1 else other != own
        )
        scale_causes = count(
            scale_differs,
            {
                "zero block": amax == 0,
                "log2": torch.full(grid, fmt.name.startswith("mx")),
                "input dtype": torch.full(grid, other.dtype == torch.bfloat16),
            },
        )

    def spread(per_block: Tensor) -> Tensor:
        high, wide = fmt.block.extents(*x.shape)
        return per_block.repeat_interleave(high, 0).repeat_interleave(wide, 1)[: x.shape[0], : x.shape[1]]

    units = (x.float() / spread(q.qparams.multiplier())).double()
    masks = {
        "zero sign": (x == 0) & (theirs == 8),
        "zero block": spread(amax == 0),
        "tiny block": spread(amax <= 2.0**-24),
        "scale": spread(scale_differs),
        "tie": near_midpoint(units, fmt, 0.0),
        "table": near_midpoint(units, fmt, 0.0, absolute=2.0**-8),  # bf16 and four digits: both under 2^-9
        "input dtype": near_midpoint(units, fmt, 3.1 * 2.0**-8)
        & (x.dtype == torch.bfloat16),  # three roundings of bf16
        "reciprocal": near_midpoint(units, fmt, 5 * 2.0**-24),  # three roundings of fp32 there, two here
    }
    causes = count(differs, {cause: masks[cause] for cause in job.causes})
    return Row(
        *(fmt.name, job.peer, name, differs.numel(), int(differs.sum()), causes),
        *(0 if job.scale is None else scale_differs.numel(), int(scale_differs.sum()), scale_causes),
    )


def near_midpoint(units: Tensor, fmt: TensorFormat, relative: float, absolute: float = 0.0) -> Tensor:
    """Whether a quotient lies at the middle of two element values, or nearer to it than rounding can tell."""
    values = torch.tensor(sorted({v for v in fmt.element.values if math.isfinite(v)}), dtype=torch.float64)
    middles = (values[1:] + values[:-1]) / 2
    above = torch.bucketize(units, middles).clamp(max=len(middles) - 1)
    gap = torch.minimum((units - middles[above]).abs(), (units - middles[(above - 1).clamp(min=0)]).abs())
    return gap <= relative * units.abs() + absolute


def count(differs: Tensor, masks: dict[str, Tensor]) -> dict[str, int]:
    """How many of the differing places fall under each cause, the first that holds; the rest is unexplained."""
    left, counts = differs.clone(), {}
    for cause, mask in masks.items():
        counts[cause] = int((left & mask).sum())
        left &= ~mask
    counts["unexplained"] = int(left.sum())
    return {cause: number for cause, number in counts.items() if number}


def peer_python() -> Path:
    """The interpreter of the peer's environment, which is made where it is missing."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), *PACKAGES]
        subprocess.run(pip, check=True)
        ready.touch()
    return python


def run_peer(inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The worker's results by `<tensor>/<job>/<part>`, and its notes."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "inputs.safetensors", Path(folder) / "results.safetensors"
        save_file(inputs, source)
        worker = Path(__file__).with_name("modelopt_worker.py")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run([str(peer_python()), str(worker), str(source), str(target)], check=True, env=environment)
        with safe_open(target, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def spelled(causes: dict[str, int]) -> str:
    return ", ".join(f"{cause} {number:,}" for cause, number in causes.items()) or "-"


def markdown(rows: list[Row], notes: dict[str, str]) -> str:
    """The page: what was compared, the table, the causes."""
    lines = [
        "# Codes compared with Model-Optimizer",
        "",
        "`bench/compare_modelopt.py` wrote this page. It quantizes the same tensors with mtcore and with",
        f"nvidia-modelopt {notes['modelopt']} (torch {notes['torch']}, {machine()}, no GPU), counts the codes",
        "and scales that differ, and checks a cause on every one of them. Eight tensors of 256 x 1024 elements",
        "were compared in every format. Rows without any difference are listed below the table.",
        "",
        "| format | peer | tensor | codes that differ | why | scales that differ | why |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.codes_differ or row.scales_differ:
            scales = f"{row.scales_differ:,} of {row.scales:,}" if row.scales else "not compared"
            cells = (row.format, row.peer, row.tensor, f"{row.codes_differ:,} of {row.codes:,}")
            cells += (spelled(row.code_causes), scales, spelled(row.scale_causes))
            lines.append(f"| {' | '.join(cells)} |")
    equal: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not (row.codes_differ or row.scales_differ):
            equal.setdefault((row.format, row.peer), []).append(row.tensor)
    lines += ["", "Equal in every code and scale:", ""]
    lines += [f"- {fmt} and {peer}: {', '.join(names)}." for (fmt, peer), names in equal.items()]
    used = {cause for row in rows for cause in row.code_causes}
    lines += ["", "## Why codes differ", "", *(f"- **{c}**: {text}" for c, text in CAUSES.items() if c in used)]
    used = {cause for row in rows for cause in row.scale_causes}
    lines += ["", "## Why scales differ", "", *(f"- **{c}**: {t}" for c, t in SCALE_CAUSES.items() if c in used)]
    failed = {name: text for name, text in notes.items() if "/" in name}
    if failed:
        lines += ["", "## What it refused", "", *(f"- {name}: {text}" for name, text in failed.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--markdown", type=Path, help="write the page to this file too")
    args = parser.parse_args()
    formats = {fmt.name: fmt for fmt in builtin_formats()}
    inputs = tensors()
    results, notes = run_peer(inputs)
    rows = []
    for job_name, job in JOBS.items():
        for name, x in inputs.items():
            prefix = f"{name}/{job_name}/"
            parts = {key.removeprefix(prefix): t for key, t in results.items() if key.startswith(prefix)}
            if parts:
                rows.append(compare(job, formats[job.format], name, x, parts))
    page = markdown(rows, notes)
    print(page)
    if args.markdown:
        args.markdown.write_text(page)
    if args.json:
        content = {"versions": notes, "machine": machine(), "rows": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(content, indent=1) + "\n")
    if any("unexplained" in {**row.code_causes, **row.scale_causes} for row in rows):
        raise SystemExit("some differences have no stated cause")


if __name__ == "__main__":
    main()
