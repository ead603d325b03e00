"""A whole model: a random Llama of 2.0 B parameters, compressed and timed; for gpu_kernels.py."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from gpu_bench import Bench
from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

from mtcore.nn import PackedLinear
from mtcore.plugins import Registry
from mtcore.quantization import compress, quantize
from mtopt_kernels import hooks

BATCH, DEPTH = 512, 8
MANY = 32
"""Texts of BATCH tokens that go through the model at once."""
RECIPES = ("bf16", "fp8", "nvfp4_weight_only", "nvfp4_fp8", "int4_weight_only", "int8")


def whole_model(bench: Bench) -> None:
    """A random Llama of 2.0 B parameters, compressed: batches of tokens, and decoding in a CUDA graph."""
    registry = Registry.load([hooks], discover=False)
    if unknown := set(bench.recipes) - set(RECIPES):
        raise SystemExit(f"--recipes {' '.join(sorted(unknown))}: not among those measured, {', '.join(RECIPES)}")
    recipes = [recipe for recipe in RECIPES if recipe in (bench.recipes or RECIPES)]
    if bench.compiled is not None:
        recipes = recipes[bench.compiled[0] : bench.compiled[0] + 1]
    base: dict[str, float] = {}
    for recipe in recipes:
        torch.manual_seed(0)
        model = random_llama()
        if recipe != "bf16":
            batch = {"input_ids": torch.randint(0, 32000, (1, BATCH), device="cuda"), "use_cache": False}
            model = compress(quantize(model, recipe, [batch], registry=registry), registry=registry)
        times = timed(bench, model, bench.inductor)
        if not bench.timing:
            continue
        base = base or times
        noted(bench, model, recipe, times, base)
        if recipe != "bf16":
            for layer in model.modules():
                if isinstance(layer, PackedLinear):
                    layer.siblings = None
            noted(bench, model, f"{recipe}, layers alone", timed(bench, model, ()), base)
        torch.compiler.reset()
        del model


def random_llama() -> torch.nn.Module:
    """Of 2.0 B parameters, in bf16."""
    sizes = LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=DEPTH, num_key_value_heads=8, vocab_size=32000
    )  # fmt: skip
    with torch.device("cuda"):
        return LlamaForCausalLM(sizes).to(torch.bfloat16).eval().requires_grad_(False)


@torch.no_grad()
def timed(bench: Bench, model: torch.nn.Module, inductor: Collection[str]) -> dict[str, float]:
    """Microseconds of forwards and of a token, by name; `inductor`: what runs compiled as well."""
    batches = [torch.randint(0, 32000, (1, BATCH), device="cuda") for _ in range(4)]
    many = torch.randint(0, 32000, (MANY, BATCH), device="cuda")
    calls = [lambda b=b: model(input_ids=b, use_cache=False).logits for b in batches]
    times: dict[str, float] = {}
    if bench.timing:
        times["forward eager"] = bench.microseconds(calls, eager=True)
        times["forward"] = bench.microseconds(calls)
        times["forward of 32"] = bench.microseconds([lambda: model(many, use_cache=False).logits])
        times["a token"] = bench.microseconds([decoding(model)] * 4)
    for what in inductor:
        if model._compiled_call_impl is None:
            model.compile()
        name, ways = ("a token", [decoding(model)] * 4) if what == "token" else ("forward", calls)
        if bench.timing:
            times[f"{name} compiled"] = bench.microseconds(ways)
        else:  # for Inductor's cache
            ways[0]()
    return times


def noted(
    bench: Bench, model: torch.nn.Module, name: str, times: Mapping[str, float], base: Mapping[str, float]
) -> None:
    """Print and keep what was measured, beside the times of bf16."""
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 2**30
    ratios = ", ".join(f"{what} {time:.0f} us ({base[what] / time:.2f}x)" for what, time in times.items())
    bench.note(f"Llama {DEPTH} layers {name}: {ratios}; {size:.2f} GiB")
    bench.add(f"model {name}", gib=size, **times)


def decoding(model: torch.nn.Module) -> Callable[[], object]:
    """One more token of a text of 64, with a cache for 512, each time that it is called or replayed."""
    cache = StaticCache(config=model.config, max_cache_len=512)
    text = torch.randint(0, 32000, (1, 64), device="cuda")
    model(input_ids=text, past_key_values=cache)
    token = text[:, :1].clone()
    place = torch.full((1, 1), 64, device="cuda")  # for the rotation; the cache counts for itself
    return lambda: model(input_ids=token, past_key_values=cache, position_ids=place).logits
