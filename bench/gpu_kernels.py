"""Measures the kernels of mtopt-kernels on a CUDA GPU, beside torch's and nvidia-modelopt's: a table, and JSON.

Usage: python bench/gpu_kernels.py [--only PART …] [--json OUT]
       [--compile-only I/N] [--inductor [forward] [token]] [--formats NAME …] [--recipes NAME …]
PART: streaming, statistics (see gpu_statistics.py), quantizer, products, w4a8 (see gpu_w4a8.py), model (see
gpu_model.py).
Every result is checked before it is timed: bit for bit against mtcore.numerics, products against float64. Operands
are random and rotate past the L2 cache; launches are captured in a CUDA graph (rows marked "eager" are not); the
time is the median of several replays. "of copy": achieved bytes over those of a device-to-device copy of this run.
nvidia-modelopt is measured where it is installed. --compile-only fills the compilers' caches by every N-th launch.
--inductor says what of the model runs under torch.compile as well, which takes minutes to compile: all if it is not
given, nothing if it names nothing.
--json keeps what an earlier run on the same kind of card wrote there of the parts that this one leaves out, and of
the formats that --formats leaves out of the streaming kernels and the quantizers, with nvidia-modelopt's, and the
recipes that --recipes leaves out of the models.
The table in docs/reference/kernels.md is made by gpu_kernels_table.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from gpu_peers import peers
from torch import Tensor

from mtcore.backends import Use, choose_kernel, format_key, reference
from mtcore.formats import TensorFormat, catalog
from mtcore.nn import TensorQuantizer
from mtcore.testing import same_bits
from mtopt_kernels import launch
from mtopt_kernels.specs import kernel_specs

ROWS, COLS = 4096, 14336
ELEMENTS = ROWS * COLS
FORMATS = (
    catalog.FP8, catalog.FP8_ROW, catalog.FP8_TILE, catalog.FP8_RUN, catalog.NVFP4, catalog.MXFP8_E4M3,
    catalog.MXFP4, catalog.MXFP6_E2M3, catalog.MXINT8, catalog.INT8_TENSOR, catalog.INT8_ROW, catalog.INT4_B128,
)  # fmt: skip


class Bench:
    """Times, prints and collects."""

    def __init__(self, part: tuple[int, int] | None, *, inductor: Collection[str] = ()) -> None:
        self.part, self.count, self.inductor = part, 0, inductor
        self.recipes: list[str] = []
        self.section = "copy"
        self.formats: list[str] = []
        self.results: list[dict[str, object]] = []
        self.copy = 0.0

    @property
    def timing(self) -> bool:
        return self.part is None

    def microseconds(self, calls: list[Callable[[], object]], *, eager: bool = False) -> float:
        """The median time of one call; the calls are made in turn."""
        if self.part is not None:
            self.count += 1
            if self.count % self.part[1] == self.part[0]:
                calls[0]()
            return 1.0
        many = [calls[i % len(calls)] for i in range(max(8, len(calls)))]
        for call in many[:3]:
            call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        if not eager:
            with torch.cuda.graph(graph):
                for call in many:
                    call()
            graph.replay()
        times = []
        for _ in range(9):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            if eager:
                for call in many:
                    call()
            else:
                graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) * 1000 / len(many))
        return statistics.median(times)

    def row(self, name: str, calls: list[Callable[[], object]], size: float, *, eager: bool = False) -> float:
        """Time something that moves `size` bytes at least."""
        us = self.microseconds(calls, eager=eager)
        rate = size / us / 1e3
        share = rate / self.copy if self.copy else 1.0
        self.note(f"{name:44s} {us:9.1f} us {rate:7.0f} GB/s {share:5.2f} of copy{' eager' if eager else ''}")
        self.add(name, us=us, gb_per_s=rate, of_copy=share, eager=eager)
        return us

    def add(self, name: str, **values: object) -> None:
        """Keep a result, with the part of the run that it belongs to."""
        self.results.append({"name": name, "part": self.section, **values})

    def note(self, line: str) -> None:
        if self.timing:
            print(line, flush=True)


def differing(actual: Tensor, expected: Tensor) -> int:
    return int((~same_bits(actual, expected)).sum())


def streaming(bench: Bench) -> None:
    """Fake quantize, quantize, dequantize and amax."""
    xs = [torch.randn(ROWS, COLS, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    for fmt in FORMATS:
        if not bench.formats or fmt.name in bench.formats:
            one_format(bench, fmt, xs)


def one_format(bench: Bench, fmt: TensorFormat, xs: list[Tensor]) -> None:
    key, x = format_key(fmt), xs[0]
    outer = torch.full((), 6.0, device="cuda") if fmt.outer is not None else None
    amax = reference.block_amax(x, fmt.block.rows, fmt.block.cols)
    stored = fmt.element.bits in (4, 8)
    codes = reference.quantize(x, None, outer, key)
    scale_2 = codes[2] if codes[2].numel() else None
    if bench.timing:
        wrong = differing(launch.fake_quantize(x, None, outer, key), reference.fake_quantize(x, None, outer, key))
        given = (x, amax * 0.9, outer, key)
        wrong += differing(launch.fake_quantize(*given), reference.fake_quantize(*given))
        if stored:
            wrong += sum(map(differing, launch.quantize(x, None, outer, key), codes))
            values = reference.dequantize(*codes[:2], scale_2, COLS, x.dtype, key)
            wrong += differing(launch.dequantize(*codes[:2], scale_2, COLS, x.dtype, key), values)
        bench.note(f"-- {fmt.name}: {wrong} wrong values")
        bench.add(f"wrong values {fmt.name}", count=wrong)
    tensor_wide = fmt.block.rows == -1
    own = [lambda x=x: launch.fake_quantize(x, None, outer, key) for x in xs]
    bench.row(f"fake {fmt.name} dynamic", own, (6 if tensor_wide else 4) * ELEMENTS)
    given_calls = [lambda x=x: launch.fake_quantize(x, amax, outer, key) for x in xs]
    bench.row(f"fake {fmt.name} static", given_calls, 4 * ELEMENTS + 4 * amax.numel())
    if stored:
        size = 2 * ELEMENTS + ELEMENTS * fmt.element.bits / 8 + codes[1].numel() * codes[1].element_size()
        known = amax if tensor_wide else None
        bench.row(f"quantize {fmt.name}", [lambda x=x: launch.quantize(x, known, outer, key) for x in xs], size)
        copies = [(codes[0].clone(), codes[1].clone()) for _ in range(4)]
        unpack = [lambda c=c: launch.dequantize(*c, scale_2, COLS, x.dtype, key) for c in copies]
        bench.row(f"dequantize {fmt.name}", unpack, size)
    block = (fmt.block.rows, fmt.block.cols)
    bench.row(
        f"amax {fmt.block}", [lambda x=x: launch.block_amax(x, *block) for x in xs], 2 * ELEMENTS + 4 * amax.numel()
    )


def statistics_part(bench: Bench) -> None:
    """See gpu_statistics.py."""
    from gpu_statistics import statistics_of_values

    statistics_of_values(bench)


def quantizers(bench: Bench) -> None:
    """Through TensorQuantizer.forward, eager."""
    if not bench.timing:
        return
    xs = [torch.randn(ROWS, COLS, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    modes = (
        (catalog.FP8, "static"), (catalog.NVFP4, "dynamic_blocks"), (catalog.INT8_ROW, "dynamic"),
        (catalog.MXFP8_E4M3, "dynamic"), (catalog.INT4_B128, "dynamic"),
    )  # fmt: skip
    for fmt, mode in modes:
        if bench.formats and fmt.name not in bench.formats:
            continue
        quantizer = TensorQuantizer(fmt, mode).cuda()
        if mode == "static":
            quantizer.set_amax(torch.full((1, 1), 5.0, device="cuda"), None)
        if mode == "dynamic_blocks":
            quantizer.set_amax(None, torch.full((), 5.0, device="cuda"))
        quantizer.kernel = choose_kernel(Use("fake_quantize", fmt, torch.device("cuda")), kernel_specs())
        calls = [lambda x=x, quantizer=quantizer: quantizer(x) for x in xs]
        with torch.no_grad():
            bench.row(f"TensorQuantizer {fmt.name}", calls * 8, 4 * ELEMENTS, eager=True)
    for name, call, size in () if bench.formats else peers(xs[0]):
        bench.row(f"modelopt {name}", [call] * 6, size, eager=True)


def products(bench: Bench) -> None:
    """See gpu_products.py."""
    from gpu_products import products as all_products

    all_products(bench)


def w4a8(bench: Bench) -> None:
    """See gpu_w4a8.py."""
    from gpu_w4a8 import w4a8 as all_w4a8

    all_w4a8(bench)


def model(bench: Bench) -> None:
    """See gpu_model.py."""
    from gpu_model import whole_model  # transformers is needed only for this

    whole_model(bench)


PARTS = {
    "streaming": streaming,
    "statistics": statistics_part,
    "quantizer": quantizers,
    "products": products,
    "w4a8": w4a8,
    "model": model,
}


def kept(path: Path | None, device: str) -> list[dict[str, object]]:
    """The rows that earlier runs wrote to a file, but for that of the copy.

    Raises:
        SystemExit: they are another card's.
    """
    if path is None or not path.exists():
        return []
    known = json.loads(path.read_text())
    if known["device"] != device:
        raise SystemExit(f"{path} holds results of one {known['device']}, this is one {device}: name another file")
    return [row for row in known["rows"] if row["part"] != "copy"]


def written(path: Path, device: str, rows: list[dict[str, object]]) -> None:
    """Write all rows, in the order of the parts."""
    order = {name: number for number, name in enumerate(("copy", *PARTS))}
    rows = sorted(rows, key=lambda row: order[str(row["part"])])
    path.write_text(json.dumps({"device": device, "rows": rows}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--compile-only")
    parser.add_argument("--inductor", nargs="*", choices=("forward", "token"), default=["forward", "token"])
    parser.add_argument("--recipes", nargs="+", default=[])
    parser.add_argument("--formats", nargs="+", choices=[fmt.name for fmt in FORMATS], default=[])
    options = parser.parse_args()
    part = tuple(map(int, options.compile_only.split("/"))) if options.compile_only else None
    bench = Bench(part, inductor=options.inductor)
    device = torch.cuda.get_device_properties(0)
    bench.formats, bench.recipes = options.formats, options.recipes
    earlier = kept(options.json, device.name)
    bench.note(f"{device.name}, sm_{device.major}{device.minor}, torch {torch.__version__}")
    sources = [torch.randn(ROWS, COLS, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    targets = [torch.empty_like(x) for x in sources]
    calls = [lambda a=a, b=b: a.copy_(b) for a, b in zip(targets, sources, strict=True)]
    us = bench.row("copy", calls, 4 * ELEMENTS)
    bench.copy = 4 * ELEMENTS / us / 1e3
    del sources, targets
    for name in options.only:
        bench.section = name
        PARTS[name](bench)
        torch.cuda.empty_cache()
        if options.json:
            now = {(row["part"], row["name"]) for row in bench.results}
            whole = set(options.only) - ({"streaming", "quantizer"} if options.formats else set())
            whole -= {"model"} if options.recipes else set()
            others = [row for row in earlier if row["part"] not in whole and (row["part"], row["name"]) not in now]
            written(options.json, device.name, others + bench.results)


if __name__ == "__main__":
    main()
