"""Products with stored weights beside torch's, in turn; for gpu_kernels.py.

All ways of one product are timed in turn, replay by replay, so that a card that warms up slows all of them. One of
torch's is there twice: the ratio of the two is the noise of a ratio. Where the plugin calls what it is held
against, it is as fast by construction, and is not timed ("same").
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from gpu_bench import Bench
from gpu_peers import tinygemm
from torch import Tensor

from mtcore.backends import format_key
from mtcore.formats import catalog
from mtopt_kernels import launch, linear
from mtopt_kernels.configurations import fp8_gemm_configuration
from mtopt_kernels.eight_bit import eight_bit_gemm
from mtopt_kernels.fp8 import fp8_product, fp8_way
from mtopt_kernels.int8 import int8_product
from mtopt_kernels.prepack import prepack_int4, prepack_nvfp4

LAYERS = ((4096, 4096), (14336, 4096), (4096, 14336), (28672, 8192))
"""Out and in features of the layers that are multiplied."""
TOKENS = (1, 16, 64, 512, 4096, 8192)
ROUNDS = 11
KEYS = {
    name: format_key(fmt)
    for name, fmt in (
        ("fp8", catalog.FP8), ("row", catalog.FP8_ROW), ("nvfp4", catalog.NVFP4), ("int4", catalog.INT4_B128),
        ("int8", catalog.INT8_ROW), ("int8 input", catalog.INT8_ROW_FULL),
    )
}  # fmt: skip
PAIRS = (
    ("fp8 ours", "fp8 cublas"), ("fp8 triton", "fp8 cublas"), ("row ours", "row torch"),
    ("block ours", "block torch"), ("fp8 with quantize", "bf16"), ("row with quantize", "bf16"), ("nvfp4", "bf16"),
    ("int4", "bf16"), ("int4", "int4 torch"), ("int8 ours", "int8 torch"), ("int8 with quantize", "bf16"),
    ("fp8 cublas again", "fp8 cublas"),
)  # fmt: skip
"""What is held against what."""

Calls = list[Callable[[], object]]


def products(bench: Bench) -> None:
    """Linear layers: bf16, FP8, INT8, NVFP4 and INT4."""
    for features, inner in LAYERS if bench.timing else LAYERS[:3]:
        weights = Weights(features, inner)
        for tokens in TOKENS:
            one_product(bench, tokens, weights)
        del weights
    if bench.timing:
        geometric_means(bench)


class Weights:
    """One weight in all formats, each in as many copies as get past the L2 cache."""

    def __init__(self, features: int, inner: int) -> None:
        self.features, self.inner = features, inner
        few = copies_past_cache(features, inner)
        self.plain = [torch.randn(features, inner, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
        self.fp8 = [(torch.randn(features, inner, device="cuda") / 2).to(torch.float8_e4m3fn) for _ in range(4)]
        self.int8 = [torch.randint(-127, 128, (features, inner), device="cuda", dtype=torch.int8) for _ in range(4)]
        stored = [launch.quantize(self.plain[i % 3], None, None, KEYS["nvfp4"]) for i in range(few)]
        self.nvfp4 = [(*prepack_nvfp4(*s[:2]), s[2]) for s in stored]
        self.nvfp4_values = launch.dequantize(*stored[0], inner, torch.bfloat16, KEYS["nvfp4"])
        stored = [launch.quantize(self.plain[i % 3], None, None, KEYS["int4"]) for i in range(few)]
        self.int4 = [(*prepack_int4(*s[:2]), None) for s in stored]
        self.int4_values = launch.dequantize(*stored[0][:2], None, inner, torch.float32, KEYS["int4"])
        self.tinygemm = tinygemm(self.plain[0])


def one_product(bench: Bench, tokens: int, weights: Weights) -> None:
    """All ways of a product with so many tokens."""
    x = torch.randn(tokens, weights.inner, device="cuda", dtype=torch.bfloat16)
    ways = dict(ways_of(x, weights, checked=bench.timing))
    sizes = (tokens, weights.features, weights.inner, torch.bfloat16)
    taken = {"fp8 ours": "tensor", "row ours": "row", "block ours": "block"}
    same = {
        name for name, by in taken.items() if fp8_way(*sizes, by) == ("torch by row" if by == "row" else "torch")
    }
    times = in_turn(bench, {name: calls for name, calls in ways.items() if name not in same})
    peers = dict(PAIRS)
    times |= {name: times[peers[name]] for name in same}
    shown = "  ".join(f"{name} {'=' if name in same else ''}{time:.1f}" for name, time in times.items())
    bench.note(f"{tokens:5d} x {weights.features:5d} x {weights.inner:5d} us: {shown}")
    bench.add("product", tokens=tokens, features=weights.features, inner=weights.inner, same=sorted(same), **times)


def ways_of(x: Tensor, weights: Weights, *, checked: bool) -> Iterator[tuple[str, Calls]]:
    """Names and calls, torch's and ours; ours are held against float64 first."""
    (tokens, inner), features, bf16 = x.shape, weights.features, torch.bfloat16
    codes, one = x.to(torch.float8_e4m3fn), torch.full((1, 1), 0.5, device="cuda")
    whole = torch.randint(-127, 128, (tokens, inner), device="cuda", dtype=torch.int8)
    rows, columns = one.expand(tokens, 1).contiguous(), one.expand(features, 1).contiguous()
    runs = one.expand(tokens, inner // 128).contiguous()
    tiles = one.expand(features // 128, inner // 128).contiguous()
    by_run, by_tile = runs.t().contiguous().t(), tiles.t()
    fast = {"out_dtype": bf16, "use_fast_accum": True}

    def nvfp4(w: tuple[Tensor, ...]) -> Tensor:
        return linear.nvfp4_linear(x, *w, None, None, None, features, KEYS["nvfp4"], "")

    def int4(w: tuple[Tensor, ...]) -> Tensor:
        return linear.int4_linear(x, *w, None, None, None, features, KEYS["int4"], "")

    if checked:
        # Results are rounded to bf16, and for many tokens a weight is too: 2^-9 each; FP8 tensor cores add up with
        # 14 bits or more: 2^-13. As in test_gpu.py.
        exact = codes.double() @ weights.fp8[0].double().T * 0.25
        hold(fp8_product(codes, one, weights.fp8[0], one, None, bf16), exact)
        hold(fp8_product(codes, rows, weights.fp8[0], columns, None, bf16), exact)
        hold(fp8_product(codes, runs, weights.fp8[0], tiles, None, bf16, by_block=True), exact)
        exact = whole.double() @ weights.int8[0].double().T * 0.25
        hold(int8_product(whole, rows, weights.int8[0], columns, None, bf16), exact)
        hold(nvfp4(weights.nvfp4[0]), x.double() @ weights.nvfp4_values.double().T)
        hold(int4(weights.int4[0]), x.double() @ weights.int4_values.double().T)
        del exact

    def cublas(w: Tensor) -> Tensor:
        return torch._scaled_mm(codes, w.t(), one[0, 0], one[0, 0], **fast)

    def layer(w: Tensor, scale: Tensor, amax: Tensor | None, name: str) -> Tensor:
        return linear.fp8_linear(x, w, scale, None, amax, None, None, features, KEYS[name], KEYS[name])

    def int8_layer(w: Tensor) -> Tensor:
        return linear.int8_linear(x, w, columns, None, None, None, None, features, KEYS["int8"], KEYS["int8 input"])

    yield "bf16", [lambda w=w: F.linear(x, w) for w in weights.plain]
    yield "fp8 cublas", [lambda w=w: cublas(w) for w in weights.fp8]
    yield "fp8 cublas again", [lambda w=w: cublas(w) for w in weights.fp8]
    yield "fp8 ours", [lambda w=w: fp8_product(codes, one, w, one, None, bf16) for w in weights.fp8]
    yield "row torch", [lambda w=w: torch._scaled_mm(codes, w.t(), rows, columns.t(), **fast) for w in weights.fp8]
    yield "row ours", [lambda w=w: fp8_product(codes, rows, w, columns, None, bf16) for w in weights.fp8]
    if tokens > 1:  # with one token torch refuses blocks
        yield (
            "block torch",
            [lambda w=w: torch._scaled_mm(codes, w.t(), by_run, by_tile, out_dtype=bf16) for w in weights.fp8],
        )
    yield (
        "block ours",
        [lambda w=w: fp8_product(codes, runs, w, tiles, None, bf16, by_block=True) for w in weights.fp8],
    )
    yield "fp8 with quantize", [lambda w=w: layer(w, one, one, "fp8") for w in weights.fp8]
    yield "row with quantize", [lambda w=w: layer(w, columns, None, "row") for w in weights.fp8]
    yield "nvfp4", [partial(nvfp4, w) for w in weights.nvfp4]
    yield "int4", [partial(int4, w) for w in weights.int4]
    if tokens > 16:  # torch's takes no fewer, and leaves the scales to its caller
        yield "int8 torch", [lambda w=w: torch._int_mm(whole, w.t()) for w in weights.int8]
    yield "int8 ours", [lambda w=w: int8_product(whole, rows, w, columns, None, bf16) for w in weights.int8]
    yield "int8 with quantize", [lambda w=w: int8_layer(w) for w in weights.int8]
    if tokens > 64:
        how = fp8_gemm_configuration(tokens, features, by_block=False)
        yield "fp8 triton", [lambda w=w: eight_bit_gemm(codes, one, w, one, None, how, bf16) for w in weights.fp8]
    else:
        yield (
            "int4 torch",
            [lambda w=w: torch.ops.aten._weight_int4pack_mm(x, w[0], 128, w[1]) for w in weights.tinygemm],
        )


def copies_past_cache(features: int, inner: int, least: int = 2) -> int:
    """How many copies of a weight with 4 bits and a byte of scale for 16 get past the L2 cache."""
    return max(least, min(8, int(3e8 // (features * inner * 0.5625)) + 1))


def hold(actual: Tensor, exact: Tensor, bound: float = 2 * 2**-9 + 2**-13) -> float:
    """How far a result is from float64, which must be within a bound."""
    error = float((actual.double() - exact).norm() / exact.norm())
    assert error < bound, (error, bound)
    return error


def in_turn(bench: Bench, ways: Mapping[str, Calls]) -> dict[str, float]:
    """The median time of one call of each way, in us; a replay of each in turn, from another one on each round."""
    if not bench.timing:
        return {name: bench.microseconds(calls) for name, calls in ways.items()}
    graphs, counts = {}, {}
    for name, calls in ways.items():
        many = [calls[i % len(calls)] for i in range(max(8, len(calls)))]
        for call in many[:3]:
            call()
        torch.cuda.synchronize()
        graphs[name], counts[name] = torch.cuda.CUDAGraph(), len(many)
        with torch.cuda.graph(graphs[name]):
            for call in many:
                call()
        graphs[name].replay()
    names, times = list(ways), {name: [] for name in ways}
    for turn in range(ROUNDS):
        events = []
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graphs[name].replay()
            end.record()
            events.append((name, start, end))
        torch.cuda.synchronize()
        for name, start, end in events:
            times[name].append(start.elapsed_time(end) * 1000 / counts[name])
    return {name: statistics.median(found) for name, found in times.items()}


def geometric_means(bench: Bench) -> None:
    """Of the products: how many times faster than torch's."""
    rows = [row for row in bench.results if row["name"] == "product"]
    for name, other in PAIRS:
        ratios = [row[other] / row[name] for row in rows if name in row and other in row]
        if ratios:
            mean, least, most = statistics.geometric_mean(ratios), min(ratios), max(ratios)
            bench.note(
                f"{name} against {other}: geometric mean {mean:.3f}, {least:.3f} to {most:.3f}, {len(ratios)} sizes"
            )
            bench.add(f"{name} / {other}", mean=mean, least=least)
