"""NVFP4 weights with FP8 inputs beside products in bf16, for gpu_kernels.py.

Both ways of one product are timed in turn (see gpu_products.py); ours starts from bf16 and includes the
quantization of its input. Results are held against float64 first: of the weight as it is stored, times the input as
it was rounded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from gpu_bench import Bench
from gpu_products import LAYERS, TOKENS, copies_past_cache, hold, in_turn
from torch import Tensor

from mtcore.backends import format_key, reference
from mtcore.formats import catalog
from mtopt_kernels import launch, linear
from mtopt_kernels.configurations import FOUR_BIT_FUSED_TOKENS
from mtopt_kernels.prepack import prepack_nvfp4

WEIGHT, INPUT = format_key(catalog.NVFP4_FP8), format_key(catalog.FP8)


def w4a8(bench: Bench) -> None:
    """All layers with all numbers of tokens."""
    for features, inner in LAYERS:
        plain = [torch.randn(features, inner, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
        copies = copies_past_cache(features, inner, least=3)
        stored = [launch.quantize(plain[i % 3], None, None, WEIGHT) for i in range(copies)]
        values = launch.dequantize(*stored[0], inner, torch.float32, WEIGHT)
        packed = [(*prepack_nvfp4(*codes[:2]), codes[2]) for codes in stored]
        for tokens in TOKENS:
            one_product(bench, tokens, plain, packed, values)


def one_product(
    bench: Bench, tokens: int, plain: list[Tensor], packed: list[tuple[Tensor, ...]], values: Tensor
) -> None:
    """With so many tokens, and a calibrated magnitude of the input."""
    features, inner = plain[0].shape
    x = torch.randn(tokens, inner, device="cuda", dtype=torch.bfloat16)
    amax = torch.full((1, 1), 4.0, device="cuda")

    def layer(weight: tuple[Tensor, ...]) -> Tensor:
        return linear.nvfp4_fp8_linear(x, *weight, amax, None, None, features, WEIGHT, INPUT)

    ways = {
        "bf16": [lambda w=w: F.linear(x, w) for w in plain],
        "nvfp4 fp8": [lambda w=w: layer(w) for w in packed],
    }
    error = held(layer(packed[0]), x, amax, values, tokens) if bench.timing else 0.0
    times = in_turn(bench, ways)
    shown = "  ".join(f"{name} {time:.1f}" for name, time in times.items())
    bench.note(f"{tokens:5d} x {features:5d} x {inner:5d} us: {shown}  off by {error:.1e}")
    bench.add("W4A8", tokens=tokens, features=features, inner=inner, error=error, **times)


def held(y: Tensor, x: Tensor, amax: Tensor, values: Tensor, tokens: int) -> float:
    """How far a result is from float64; within the bound of the plugin's test_gpu.py, or an error."""
    exact = reference.fake_quantize(x.float(), amax, None, INPUT).double() @ values.double().T
    return hold(y, exact, 2**-4) if tokens > FOUR_BIT_FUSED_TOKENS else hold(y, exact)
