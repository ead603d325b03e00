"""What calibration asks of values and weights, and rotations, for gpu_kernels.py; beside torch's own."""

from __future__ import annotations

from functools import partial

import torch
from gpu_bench import Bench, differing
from torch import Tensor

from mtcore.backends import format_key, reference
from mtcore.formats import catalog
from mtopt_kernels import calibration as kernels

TOKENS, CHANNELS = 4096, 14336
SIZES = (64, 256, 1024, 2048)
"""Of Hadamard transforms; they divide CHANNELS."""


def statistics_of_values(bench: Bench) -> None:
    """Every kernel that serves calibration, checked and timed."""
    xs = [torch.randn(TOKENS, CHANNELS, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    for moments in (False, True):
        for histogram in (False, True):
            columns(bench, xs, moments, histogram)
    for dtype in (torch.float16, torch.float32):
        columns(bench, [x.to(dtype) for x in xs], False, True)
    for size in SIZES:
        rotation(bench, xs, size)
    wide = [torch.randn(14336, 4096, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    rotation(bench, wide, 4096)
    sweep(bench, xs)
    gram(bench)


def columns(bench: Bench, xs: list[Tensor], moments: bool, histogram: bool) -> None:
    what = " + ".join(["amax"] + ["moments"] * moments + ["histogram"] * histogram)
    if xs[0].dtype != torch.bfloat16:
        what += f" of {str(xs[0].dtype).removeprefix('torch.')}"
    found, known = (side.column_statistics(xs[0], moments, histogram) for side in (kernels, reference))
    checked(bench, f"columns, {what}", [(found[0], known[0]), (found[3], known[3])])
    for name, side in (("columns", kernels), ("torch, columns", reference)):
        calls = [partial(side.column_statistics, x, moments, histogram) for x in xs]
        bench.row(f"{name}, {what}", calls, xs[0].numel() * xs[0].element_size())


def rotation(bench: Bench, xs: list[Tensor], size: int) -> None:
    """bf16 in, fp32 out."""
    checked(bench, f"Hadamard {size}", [tuple(side.hadamard(xs[0], size, False) for side in (kernels, reference))])
    for name, side in (("Hadamard", kernels), ("torch, Hadamard", reference)):
        bench.row(f"{name} {size}", [partial(side.hadamard, x, size, False) for x in xs], xs[0].numel() * 6)


def sweep(bench: Bench, xs: list[Tensor]) -> None:
    key, outer = format_key(catalog.NVFP4), torch.full((), 6.0, device="cuda")
    amax = reference.block_amax(xs[0], 1, 16)
    part = (xs[0][:512], amax[:512], outer, None, 12, 10, key)
    checked(bench, "NVFP4 sweep", [tuple(side.sweep_amax(*part) for side in (kernels, reference))])
    calls = [partial(kernels.sweep_amax, x, amax, outer, None, 12, 10, key) for x in xs]
    bench.row("NVFP4 sweep, 23 codes", calls, xs[0].numel() * 2.5)
    if bench.timing:  # torch reads sizes back; its temporaries are large, so an eighth of the weight
        us = bench.microseconds([partial(reference.sweep_amax, *part)] * 3, eager=True) * 8
        bench.note(f"torch, NVFP4 sweep {us:.0f} us")
        bench.add("torch, NVFP4 sweep, 23 codes", us=us)


def gram(bench: Bench) -> None:
    total = torch.zeros(4096, 4096, device="cuda")
    xs = [torch.randn(8192, 4096, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    for name, side in (("gram", kernels), ("torch, gram", reference)):
        us = bench.microseconds([partial(side.add_gram, total, x) for x in xs])
        rate = 2 * xs[0].numel() * 4096 / us / 1e6
        bench.note(f"{name:44s} {us:9.1f} us {rate:7.0f} TFLOP/s")
        bench.add(name, us=us, tflop_per_s=rate)


def checked(bench: Bench, name: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
    if bench.timing:
        wrong = sum(differing(*pair) for pair in pairs)
        bench.note(f"-- {name}: {wrong} wrong values")
        bench.add(f"differing {name}", count=wrong)
