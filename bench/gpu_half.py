"""Weights of 4 bits times a few tokens in fp16 beside products in fp16, for gpu_kernels.py.

All ways of one product are timed in turn (see gpu_products.py) and held against float64 first.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from gpu_bench import Bench
from gpu_products import LAYERS, copies_past_cache, hold, in_turn
from torch import Tensor

from mtcore.backends import format_key
from mtcore.formats import catalog
from mtopt_kernels import launch, linear
from mtopt_kernels.prepack import prepack_int4, prepack_nvfp4

TOKENS = (1, 16, 64)
FORMATS = {"nvfp4": (catalog.NVFP4, prepack_nvfp4), "int4": (catalog.INT4_B128, prepack_int4)}


def half(bench: Bench) -> None:
    """All layers with all numbers of tokens."""
    for features, inner in LAYERS:
        plain = [torch.randn(features, inner, device="cuda", dtype=torch.float16) for _ in range(3)]
        copies = copies_past_cache(features, inner, least=3)
        packed: dict[str, list[tuple[Tensor, ...]]] = {}
        values: dict[str, Tensor] = {}
        for name, (fmt, prepack) in FORMATS.items():
            stored = [launch.quantize(plain[i % 3], None, None, format_key(fmt)) for i in range(copies)]
            outer = [each[2] if each[2].numel() else None for each in stored]
            packed[name] = [(*prepack(*each[:2]), last) for each, last in zip(stored, outer, strict=True)]
            values[name] = launch.dequantize(*stored[0][:2], outer[0], inner, torch.float32, format_key(fmt))
        for tokens in TOKENS:
            one_product(bench, tokens, plain, packed, values)


def one_product(
    bench: Bench,
    tokens: int,
    plain: list[Tensor],
    packed: dict[str, list[tuple[Tensor, ...]]],
    values: dict[str, Tensor],
) -> None:
    """With so many tokens."""
    features, inner = plain[0].shape
    x = torch.randn(tokens, inner, device="cuda", dtype=torch.float16)
    ways = {"fp16": [partial(F.linear, x, w) for w in plain]}
    for name, (fmt, _) in FORMATS.items():
        product, key = getattr(linear, f"{name}_linear"), format_key(fmt)
        ways[name] = [partial(product, x, *w, None, None, None, features, key, "") for w in packed[name]]
        if bench.timing:
            exact = x.double() @ values[name].double().T
            hold(ways[name][0](), exact, 2**-12 + 2**-13)  # rounded once
    times = in_turn(bench, ways)
    shown = "  ".join(f"{name} {time:.1f}" for name, time in times.items())
    bench.note(f"{tokens:5d} x {features:5d} x {inner:5d} us: {shown}")
    bench.add("fp16 product", tokens=tokens, features=features, inner=inner, **times)
