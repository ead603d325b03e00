"""On a GPU: quantization that Inductor fuses has the reference's bits, and takes the place of a kernel of ours."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from mtcore.backends import format_key, reference
from mtcore.formats import builtin_formats
from mtcore.plugins import Registry
from mtcore.quantization import compress, quantize
from mtcore.testing.compare import assert_same_bits
from mtopt_kernels import fused, hooks, linear

KEYS = {fmt.name: format_key(fmt) for fmt in builtin_formats()}
QUANTIZING = {"rectangles_kernel", "pairs_kernel", "blocks_kernel", "rows_amax_kernel"}
"""Kernels that quantize, or that find what to quantize by."""


@pytest.fixture(autouse=True)
def compiled_afresh():
    torch.compiler.reset()


def scale_and_codes(x, amax, key):
    units = fused.units_of(key)
    scale = fused.scale_of(fused.amax_of(x, units) if amax is None else amax.reshape(1, 1), units)
    return fused.codes_of(x, scale, units), scale


def assert_as_the_reference(found, x, amax, key):
    on_cpu = x.cpu(), None if amax is None else amax.cpu(), None, key
    for got, wanted, what in zip(found, reference.quantize(*on_cpu), ("codes", "scales"), strict=False):
        assert_same_bits(got.cpu(), wanted, f"{what} for {amax}")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["fp8", "int8"])
def test_all_values_of_bf16_times_many_scales_have_the_codes_of_the_reference(name):
    compiled = torch.compile(scale_and_codes, fullgraph=True)
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32, device="cuda").to(torch.int16)
    x = bits.view(torch.bfloat16).reshape(256, 256)
    torch.manual_seed(0)
    sizes = torch.ldexp(1 + torch.rand(60), torch.randint(-149, 127, (60,))).tolist()
    for magnitude in (*sizes, *(100 * torch.rand(60)).tolist(), 448.0, 1.0, 0.0, -1.0, 1e-44, math.inf, math.nan):
        amax = torch.tensor([[magnitude]], device="cuda")
        assert_as_the_reference(compiled(x, amax, KEYS[name]), x, amax, KEYS[name])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", ["fp8_row", "int8_row", "int8_row_full", "fp8_1x128"])
def test_codes_are_those_of_the_values_that_a_graph_gives_not_of_what_was_there_before_rounding(name, dtype):
    def normed(x, weight):
        y = (x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * weight
        y = F.silu(y) * x
        return y, *scale_and_codes(y, None, KEYS[name])

    compiled = torch.compile(normed, fullgraph=True, dynamic=False)
    torch.manual_seed(0)
    for rows, cols in ((1, 4096), (100, 4096), (100, 14336), (3, 128)):
        x = torch.randn(rows, cols, device="cuda").to(dtype)
        x[rows // 2, 5] = math.nan if rows == 100 else 0.0
        y, *found = compiled(x, torch.rand(cols, device="cuda").to(dtype))
        assert_as_the_reference(found, y, None, KEYS[name])


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["fp8", "int8", "int8_static", "fp8_block", "nvfp4_fp8"])
@pytest.mark.parametrize("tokens", [1, 300])
def test_a_compiled_language_model_starts_no_kernel_that_quantizes_activations(recipe, tokens, monkeypatch):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = LlamaConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, vocab_size=512
    )
    model = LlamaForCausalLM(sizes).to("cuda", torch.bfloat16).eval()
    prompt = torch.randint(0, 512, (1, tokens), device="cuda")
    registry = Registry.load([hooks], discover=False)
    model = compress(quantize(model, recipe, [{"input_ids": prompt}], registry=registry), registry=registry)
    with torch.no_grad():
        expected = model(prompt, use_cache=False).logits
        monkeypatch.setattr(linear, "quantize", None)
        model.compile()
        found = model(prompt, use_cache=False).logits
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            model(prompt, use_cache=False)
            torch.cuda.synchronize()
    # Before it bf16 is rounded elsewhere: where values move by 2^-8 of themselves, one code in 2^4 moves, by
    # 2^-3 in e4m3: that is 2^-5 of the norm for each of 8 inputs in turn, in random directions.
    assert (found - expected).norm() <= 8**0.5 * 2**-5 * expected.norm()
    if tokens == 1 and recipe != "nvfp4_fp8":  # else the one number of a tensor's scale is worked out by a kernel
        assert not QUANTIZING & {event.key for event in profiled.key_averages()}
