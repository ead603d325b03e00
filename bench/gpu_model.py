"""A whole model: a random Llama of 2.0 B parameters, compressed and timed; for gpu_kernels.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

from mtcore.plugins import Registry
from mtcore.quantization import compress, quantize
from mtopt_kernels import hooks

BATCH, DEPTH = 512, 8
MANY = 32
"""Texts of BATCH tokens that go through the model at once."""
RECIPES = ("bf16", "fp8", "nvfp4_weight_only", "nvfp4_fp8", "int4_weight_only", "int8")


def whole_model(bench: Any) -> None:
    """A random Llama of 2.0 B parameters, compressed: batches of tokens, and decoding in a CUDA graph."""
    registry = Registry.load([hooks], discover=False)
    sizes = LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=DEPTH, num_key_value_heads=8, vocab_size=32000
    )  # fmt: skip
    batches = [torch.randint(0, 32000, (1, BATCH), device="cuda") for _ in range(4)]
    many = torch.randint(0, 32000, (MANY, BATCH), device="cuda")
    base: dict[str, float] = {}
    for recipe in RECIPES if bench.timing else RECIPES[bench.part[0] : bench.part[0] + 1]:
        torch.manual_seed(0)
        with torch.device("cuda"):
            model = LlamaForCausalLM(sizes).to(torch.bfloat16).eval().requires_grad_(False)
        if recipe != "bf16":
            batch = {"input_ids": batches[0], "use_cache": False}
            model = compress(quantize(model, recipe, [batch], registry=registry), registry=registry)
        times = {}
        with torch.no_grad():
            calls = [lambda b=b, model=model: model(input_ids=b, use_cache=False).logits for b in batches]
            if not bench.timing:  # for Inductor's cache
                model.compile()
                calls[0](), decoding(model)()
                continue
            times["forward eager"] = bench.microseconds(calls, eager=True)
            times["forward"] = bench.microseconds(calls)
            times["forward of 32"] = bench.microseconds([lambda model=model: model(many, use_cache=False).logits])
            times["a token"] = bench.microseconds([decoding(model)] * 4)
            if bench.inductor:
                model.compile()
                times["forward compiled"] = bench.microseconds(calls)
                times["a token compiled"] = bench.microseconds([decoding(model)] * 4)
        base = base or times
        size = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 2**30
        ratios = ", ".join(f"{name} {time:.0f} us ({base[name] / time:.2f}x)" for name, time in times.items())
        bench.note(f"Llama {DEPTH} layers {recipe}: {ratios}; {size:.2f} GiB")
        bench.add(f"model {recipe}", gib=size, **times)
        torch.compiler.reset()
        del model, calls


def decoding(model: torch.nn.Module) -> Callable[[], object]:
    """One more token of a text of 64, with a cache for 512, each time that it is called or replayed."""
    cache = StaticCache(config=model.config, max_cache_len=512)
    text = torch.randint(0, 32000, (1, 64), device="cuda")
    model(input_ids=text, past_key_values=cache)
    token = text[:, :1].clone()
    place = torch.full((1, 1), 64, device="cuda")  # for the rotation; the cache counts for itself
    return lambda: model(input_ids=token, past_key_values=cache, position_ids=place).logits
