"""Times the CPU reference: quantize and pack, dequantize, fake-quantize, for one weight in every format.

The unit is one fp32 `abs().amax()` over a weight of the same shape, timed in the same process in turn with each
job, so that figures of different or busy machines compare. Run:
`OMP_NUM_THREADS=1 python bench/cpu_numerics.py [--all] [--json FILE] [--bands]`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import machine

from mtcore.formats import TensorFormat, builtin_formats
from mtcore.numerics import bands, dequantize, dynamic_qparams, fake_quantize, four_over_six_qparams, quantize

USUAL = (
    *("fp8", "fp8_row", "fp8_128x128", "fp8_1x128", "fp8_e5m2", "nvfp4", "mxfp8_e4m3", "mxfp6_e3m2", "mxfp4"),
    *("mxint8", "int8", "int8_row", "int4_b128", "int4_b128_asym", "int3_b128", "int4_b128_fp8", "nf4"),
)
JOBS = ("quantize", "dequantize", "fake_quantize")
LIMIT = 25.0
"""The most that packing to NVFP4 may cost, in units."""


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """The median wall time of `work` after one call that warms up, in milliseconds."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def peak_extra_mib(work: Callable[[], object]) -> float | None:
    """How far the process's memory rose above its start while `work` ran, results included; Linux only."""
    if sys.platform != "linux":
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what earlier work left in the allocator would hide a rise
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present size
    before = memory_mib("VmRSS")
    result = work()
    peak = memory_mib("VmHWM")
    del result
    return peak - before


def memory_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def in_turn(work: Callable[[], object], unit: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The median milliseconds of `work`, and how many median units that is."""
    pairs = [(median_ms(work, 1), median_ms(unit, 1)) for _ in range(repeats)]
    work_ms, unit_ms = (statistics.median(times) for times in zip(*pairs, strict=True))
    return round(work_ms, 2), round(work_ms / unit_ms, 2)


def measure(fmt: TensorFormat, weight: torch.Tensor, unit: Callable[[], object], repeats: int) -> dict[str, object]:
    q = quantize(weight, dynamic_qparams(weight, fmt))
    jobs = {
        "quantize": lambda: quantize(weight, dynamic_qparams(weight, fmt)),
        "dequantize": lambda: dequantize(q),
        "fake_quantize": lambda: fake_quantize(weight, dynamic_qparams(weight, fmt)),
    }
    row: dict[str, object] = {"format": fmt.name}
    for name, job in jobs.items():
        row[f"{name}_ms"], row[f"{name}_units"] = in_turn(job, unit, repeats)
    peak = peak_extra_mib(jobs["quantize"])
    row["quantize_temporary_mib"] = None if peak is None else round(peak - q.size_bytes / 2**20, 1)
    return row


def band_sizes(weight: torch.Tensor, fmt: TensorFormat, repeats: int) -> dict[int, float]:
    """Milliseconds of quantizing with each size of band."""
    kept, times = bands.BAND_ELEMENTS, {}
    for power in range(13, 22):
        bands.BAND_ELEMENTS = 2**power
        times[2**power] = round(median_ms(lambda: quantize(weight, dynamic_qparams(weight, fmt)), repeats), 1)
    bands.BAND_ELEMENTS = kept
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the weight")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--all", action="store_true", help="every built-in format, not only the usual ones")
    parser.add_argument("--bands", action="store_true", help="time band sizes instead")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()

    formats = {fmt.name: fmt for fmt in builtin_formats()}
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(args.size, args.size, generator=generator)
    weight = full.bfloat16()
    if args.bands:
        print(json.dumps(band_sizes(weight, formats["nvfp4"], args.repeats), indent=1))
        return

    def unit() -> torch.Tensor:
        return full.abs().amax()

    unit_ms = median_ms(unit, 3 * args.repeats)
    rows = [measure(fmt, weight, unit, args.repeats) for name, fmt in formats.items() if args.all or name in USUAL]
    nvfp4 = formats["nvfp4"]
    choosing = in_turn(lambda: quantize(weight, four_over_six_qparams(weight, nvfp4)), unit, args.repeats)
    result = {
        "machine": machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "shape": list(weight.shape),
        "unit_ms": round(unit_ms, 2),
        "formats": rows,
        "nvfp4_four_over_six_units": choosing[1],
    }
    print(f"{result['machine']}, torch {torch.__version__}, {result['threads']} threads; bf16 weight {args.size}²")
    print(f"one unit = fp32 abs().amax() = {unit_ms:.1f} ms")
    print(f"{'format':18}{'quantize+pack':>22}{'dequantize':>22}{'fake_quantize':>22}{'temporaries':>14}")
    for row in rows:
        cells = "".join(f"{row[f'{job}_ms']:>12} ms{row[f'{job}_units']:>6}x" for job in JOBS)
        print(f"{row['format']:18}{cells}{row['quantize_temporary_mib']!s:>10} MiB")
    print(f"nvfp4 with four over six: {result['nvfp4_four_over_six_units']} units")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    cost = next(row["quantize_units"] for row in rows if row["format"] == "nvfp4")
    raise SystemExit(f"nvfp4 takes {cost} units; the limit is {LIMIT}" if cost > LIMIT else 0)


if __name__ == "__main__":
    main()
