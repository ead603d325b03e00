"""A whole model: a random Llama of 2.0 B parameters, compressed and timed; for gpu_kernels.py."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping

import torch
import torch._inductor.config
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
        recipes = recipes[bench.compiled[0] :: bench.compiled[1]]
    base: dict[str, float] = {}
    plain = random_llama() if bench.timing else None
    for recipe in recipes:
        torch.manual_seed(0)
        model = random_llama()
        if recipe != "bf16":
            batch = {"input_ids": torch.randint(0, 32000, (1, BATCH), device="cuda"), "use_cache": False}
            model = compress(quantize(model, recipe, [batch], registry=registry), registry=registry)
        times = timed(bench, model, bench.inductor)
        if plain is not None:
            times |= eager(model, plain)
            base = base or times
            noted(bench, model, recipe, times, base)
        if bench.timing and bench.layers_alone and recipe != "bf16":
            for layer in model.modules():
                if isinstance(layer, PackedLinear):
                    layer.siblings = None
            noted(bench, model, f"{recipe}, layers alone", timed(bench, model, ()), base)
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
    forward = [lambda b=b: model(input_ids=b, use_cache=False).logits for b in batches]
    forward_of_many = [lambda: model(many, use_cache=False).logits]
    times: dict[str, float] = {}
    if bench.timing:
        times["forward"] = bench.microseconds(forward)
        times["forward of 32"] = bench.microseconds(forward_of_many, count=2)
        times["a token"] = bench.microseconds([decoding(model)])
    for what in inductor:
        torch.compiler.reset()  # or another size would be compiled for sizes that are not known
        torch._inductor.config.triton.enable_pdl = what == "early"
        model.compile()
        if what in ("token", "early"):
            name, ways, count = "a token compiled" + ", early starts" * (what == "early"), [decoding(model)], 8
        elif what == "many":
            name, ways, count = "forward of 32 compiled", forward_of_many, 2
        else:
            name, ways, count = "forward compiled", forward, 8
        if bench.timing:
            times[name] = bench.microseconds(ways, count=count)
        else:  # for Inductor's cache
            ways[0]()
    torch._inductor.config.triton.enable_pdl = False
    torch.compiler.reset()
    model._compiled_call_impl = None  # eager again
    return times


@torch.no_grad()
def eager(model: torch.nn.Module, plain: torch.nn.Module) -> dict[str, float]:
    """Microseconds of a token and of a forward without a CUDA graph, and of the model in bf16 in turn with them,
    since the host decides, and its speed changes."""
    batch = torch.randint(0, 32000, (1, BATCH), device="cuda")
    times: dict[str, float] = {}
    for name, make in (
        ("a token eager", decoding),
        ("forward eager", lambda model: lambda: model(input_ids=batch, use_cache=False).logits),
    ):
        calls = {name: make(model), f"{name}, bf16 in turn": make(plain)}
        found: dict[str, list[float]] = {key: [] for key in calls}
        for _ in range(12):
            for key, call in calls.items():
                torch.cuda.synchronize()
                start = time.perf_counter()
                for _ in range(8):
                    call()
                torch.cuda.synchronize()
                found[key].append((time.perf_counter() - start) * 1e6 / 8)
        times |= {key: statistics.median(each[2:]) for key, each in found.items()}
    return times


def noted(
    bench: Bench, model: torch.nn.Module, name: str, times: Mapping[str, float], base: Mapping[str, float]
) -> None:
    """Print and keep what was measured, beside the times of bf16."""
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 2**30
    beside = {what: times.get(f"{what}, bf16 in turn", base[what]) for what in times}
    ratios = ", ".join(f"{what} {us:.0f} us ({beside[what] / us:.2f}x)" for what, us in times.items())
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
