"""On a GPU: the contract of every kernel for every format that it serves (run with `pytest -m gpu`)."""

import copy
import math

import pytest
import torch

from mtcore.backends import Use, choose_kernel, format_key, reference
from mtcore.formats import builtin_formats
from mtcore.plugins import Registry
from mtcore.quantization import calibrate, compress, quantize
from mtcore.testing import CalibrationKernelContract, KernelContract
from mtcore.testing.compare import assert_same_bits
from mtcore.testing.formats import sample
from mtcore.testing.kernels import check
from mtopt_kernels import hooks, parts, replay, specs

FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
KERNELS = {spec.op: spec for spec in specs.streaming_specs()}
REFUSALS = {
    "fake_quantize": specs.refuses_streaming,
    "quantize": specs.refuses_codes,
    "dequantize": specs.refuses_codes,
    "block_amax": specs.refuses_amax,
}
NAMES = (
    "fp8", "fp8_row", "fp8_128x128", "fp8_e5m2_1x128", "nvfp4", "mxfp8_e4m3", "mxfp4_half_up", "mxfp6_e2m3",
    "mxfp6_e3m2", "mxint8_floor", "int8", "int8_row_full", "int6_b64", "int4_b128",
)  # fmt: skip
CASES = [
    pytest.param(op, name, id=f"{op}-{name}")
    for op, refuses in REFUSALS.items()
    for name in NAMES
    if refuses(Use(op, FORMATS[name], torch.device("cuda"))) is None
]


@pytest.mark.gpu
@pytest.mark.parametrize(("op", "name"), CASES)
class TestOnGpu(KernelContract):
    @pytest.fixture
    def kernel(self, op):
        return KERNELS[op]

    @pytest.fixture
    def fmt(self, name):
        return FORMATS[name]

    @pytest.fixture
    def device(self):
        return torch.device("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("cols", [9000, 9001, 14336, 28672, 32800])
@pytest.mark.parametrize("name", ["fp8_row", "int8_row_full"])
def test_long_rows_end_as_in_the_reference(name, cols, dtype):
    fmt, x = FORMATS[name], sample((5, cols), dtype)
    x[1, cols - 1], x[3, 0] = math.nan, math.inf
    for view in (x, x[:, 1:], x[::2]):
        for op in ("fake_quantize", "quantize"):
            check(KERNELS[op], fmt, torch.device("cuda"), view, f"rows of {view.shape[1]} in {dtype}")


@pytest.mark.gpu
@pytest.mark.parametrize("op", ["column_statistics", "add_gram", "sweep_amax", "hadamard"])
class TestCalibrationOnGpu(CalibrationKernelContract):
    @pytest.fixture
    def kernel(self, op):
        return {spec.op: spec for spec in specs.calibration_specs()}[op]

    @pytest.fixture
    def fmt(self, op):
        return FORMATS["nvfp4"] if op == "sweep_amax" else None

    @pytest.fixture
    def device(self):
        return torch.device("cuda")


@pytest.mark.gpu
def test_statistics_of_a_calibration_come_from_the_kernels_and_change_no_scale():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(512, 1024), torch.nn.SiLU(), torch.nn.Linear(1024, 512))
    model = model.to("cuda", torch.bfloat16).eval()
    batches = [torch.randn(64, 512, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    for recipe in ("fp8", "nvfp4"):
        for method in ("percentile", "mse"):
            found = []
            for registry in (Registry.load([hooks], discover=False), Registry.load([], discover=False)):
                other = quantize(copy.deepcopy(model), recipe, batches, registry=registry)
                calibrate(other, method, batches, registry=registry)
                found.append({name: value.cpu() for name, value in other.state_dict().items()})
            assert found[0].keys() == found[1].keys()
            for name, value in found[0].items():
                assert torch.equal(value, found[1][name]), (recipe, method, name)


def relative(actual, expected):
    return float((actual.double() - expected).norm() / expected.norm())


PRODUCTS = [
    ("nvfp4", ""),
    ("fp8", "fp8"),
    ("fp8_row", "fp8_row"),
    ("fp8_128x128", "fp8_1x128"),
    ("int4_b128", ""),
    ("int4_b64", ""),
    ("int8_row", "int8_row_full"),
    ("int8", "int8"),
    ("nvfp4_fp8", "fp8"),
]


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 3, 16, 64, 100, 700])
@pytest.mark.parametrize(("features", "inner"), [(256, 512), (1000, 4096), (8192, 256)])
@pytest.mark.parametrize(("weight", "given"), PRODUCTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_product_agrees_with_float64(tokens, features, inner, weight, given, dtype):
    device = torch.device("cuda")
    fmt, input_format = FORMATS[weight], FORMATS[given] if given else None
    choice = choose_kernel(Use("linear", fmt, device, input_format, (features, inner)), specs.linear_specs())
    x = torch.randn(tokens, inner, device=device, dtype=dtype)
    stored = reference.quantize(torch.randn(features, inner, device=device), None, None, choice.key)
    bias = torch.randn(features, device=device, dtype=dtype)
    prepared = choice.kernel.prepare(*stored[:2]) if choice.kernel.prepare else stored[:2]
    scale_2 = stored[2] if stored[2].numel() else None
    y = choice.kernel.run(x, *prepared, scale_2, None, None, bias, features, choice.key, choice.input_key)
    values = reference.dequantize(*stored[:2], scale_2, inner, torch.float32, choice.key).double()
    seen = reference.fake_quantize(x.float(), None, None, choice.input_key) if given else x
    # The result, and the weight of unfused products, are rounded: a quarter of eps each; FP8 tensor cores add up
    # with 14 bits or more: 2^-13. Of nvfp4_fp8, a weight may move by 2^-4 of itself, with random signs.
    bound = 2**-4 if weight == "nvfp4_fp8" and tokens > 256 else 2 * torch.finfo(dtype).eps / 4
    if weight.startswith("fp8"):
        bound += 2**-13 * (inner / 16) ** 0.5
    assert relative(y, seen.double() @ values.T + bias.double()) <= bound


@pytest.mark.gpu
@pytest.mark.parametrize("size", [1.0, 1e-12, 1e12])
@pytest.mark.parametrize(("features", "inner"), [(8, 128), (40, 384), (1000, 14336), (4096, 4096), (28672, 4096)])
def test_nvfp4_weights_of_all_scales_times_one_token_agree_with_float64(features, inner, size):
    device, fmt = torch.device("cuda"), FORMATS["nvfp4"]
    choice = choose_kernel(Use("linear", fmt, device, None, (features, inner)), specs.linear_specs())
    x = torch.randn(2 * inner + 2, device=device, dtype=torch.bfloat16) * size
    x = x[None, 1 : inner + 1]  # at an odd place
    weight = torch.randn(features, inner, device=device) * torch.logspace(-6, 2, features, device=device)[:, None]
    qdata, scale, scale_2 = reference.quantize(weight, None, None, choice.key)
    prepared = choice.kernel.prepare(qdata, scale)
    y = choice.kernel.run(x, *prepared, scale_2, None, None, None, features, choice.key, "")
    values = reference.dequantize(qdata, scale, scale_2, inner, torch.float32, choice.key).double()
    expected = x.double() @ values.T
    # Rounded to bf16: 2^-8 of each at most. Sums in fp32: sqrt(inner) * 2^-22 of the norm of a feature's terms.
    bound = expected.abs() * 2**-8 + (x.double().square() @ values.square().T).sqrt() * inner**0.5 * 2**-22
    assert bool(((y.double() - expected).abs() <= bound).all())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("tokens", [2, 16, 64, 128])
def test_every_code_of_4_bits_is_multiplied_as_what_it_stands_for(tokens, dtype):
    device, inner = torch.device("cuda"), 128
    x = torch.eye(inner, device=device, dtype=dtype)[:tokens]
    for name in ("nvfp4", "int4_b128"):
        choice = choose_kernel(Use("linear", FORMATS[name], device, None, (128, inner)), specs.linear_specs())
        # every code beside every scale: those of NVFP4 that are not NaN, powers of two of INT4
        row = torch.arange(128, device=device)
        codes = (row[:, None] + torch.arange(inner, device=device)) % 16
        qdata = (codes[:, ::2] | codes[:, 1::2] << 4).to(torch.uint8)
        if name == "nvfp4":
            bytes_, outer = row.clamp(max=126).to(torch.uint8), torch.ones((), device=device)
            scale = bytes_.view(torch.float8_e4m3fn)[:, None].repeat(1, inner // 16)
        else:
            scale, outer = torch.exp2(row % 16 - 8.0)[:, None], None
        expected = reference.dequantize(qdata, scale, outer, inner, dtype, choice.key)[:, :tokens].T
        prepared = choice.kernel.prepare(qdata, scale)
        y = choice.kernel.run(x, *prepared, outer, None, None, None, 128, choice.key, "")
        assert torch.equal(y, expected)


def several(weight, given, tokens, seed):
    """A kernel's choice, and the arguments of three products with inputs and weights of a seed, up to the keys."""
    torch.manual_seed(seed)
    device, widths, inner = torch.device("cuda"), (1000, 256, 4096), 512
    fmt, input_format = FORMATS[weight], FORMATS[given] if given else None
    choice = choose_kernel(Use("linear", fmt, device, input_format, (1000, inner)), specs.linear_specs())
    x = torch.randn(tokens, inner, device=device, dtype=torch.bfloat16)
    plain = [torch.randn(width, inner, device=device) * (i + 1) for i, width in enumerate(widths)]
    stored = [reference.quantize(each, None, None, choice.key) for each in plain]
    prepared = [choice.kernel.prepare(*each[:2]) if choice.kernel.prepare else each[:2] for each in stored]
    weights, scales = ([each[i] for each in prepared] for i in range(2))
    scale_2 = [each[2] if each[2].numel() else None for each in stored]
    bias = [torch.randn(width, device=device, dtype=torch.bfloat16) for width in widths]
    return choice, stored, (x, weights, scales, scale_2, None, None, bias, widths)


SEVERAL = [("nvfp4", ""), ("fp8", "fp8"), ("fp8_row", "fp8_row"), ("int4_b128", ""), ("int8_row", "int8_row_full")]


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 16, 64, 700])
@pytest.mark.parametrize(("weight", "given"), SEVERAL)
def test_several_products_at_once_agree_with_float64(tokens, weight, given):
    choice, stored, arguments = several(weight, given, tokens, seed=0)
    results = choice.kernel.together(*arguments, choice.key, choice.input_key)
    x, _, _, scale_2, _, _, bias, _ = arguments
    seen = reference.fake_quantize(x.float(), None, None, choice.input_key) if given else x
    for y, each, outer, added in zip(results, stored, scale_2, bias, strict=True):
        values = reference.dequantize(*each[:2], outer, 512, torch.float32, choice.key).double()
        assert relative(y, seen.double() @ values.T + added.double()) <= 2 * 2**-9 + 2**-13


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 16, 700])
@pytest.mark.parametrize(("weight", "given"), SEVERAL)
def test_repeated_products_are_those_that_were_worked_out(tokens, weight, given):
    choice, _, first = several(weight, given, tokens, seed=0)
    _, _, second = several(weight, given, tokens, seed=1)
    if weight == "fp8":  # whose scale is one for all, so that it takes two readings
        first, second = ((*it[:4], torch.full((1, 1), 4.0, device="cuda"), *it[5:]) for it in (first, second))
    run, keys = choice.kernel.together, (choice.key, choice.input_key)
    replay._KEPT.clear()
    run(*first, *keys)
    repeated = run(*second, *keys)
    recordings = [recording for recording in replay._KEPT.values() if recording is not None]
    assert recordings, "nothing was repeated"
    assert tokens > 16 or len(recordings[-1].results) == 3, "the products were not repeated"
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(*second, *keys)
    graph.replay()
    replay._KEPT.clear()
    for one, again, replayed in zip(run(*second, *keys), repeated, captured, strict=True):
        assert torch.equal(one, again)
        assert torch.equal(one, replayed)


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["fp8", "nvfp4_weight_only"])
def test_inductor_records_a_model_that_never_ran(recipe):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4096, 1024), torch.nn.SiLU(), torch.nn.Linear(1024, 512))
    model = model.to("cuda", torch.bfloat16).eval().requires_grad_(False)
    x = torch.randn(1, 4096, device="cuda", dtype=torch.bfloat16)
    registry = Registry.load([hooks], discover=False)
    model = compress(quantize(model, recipe, [x], registry=registry), registry=registry)
    replay._KEPT.clear()
    parts._KEPT.clear()
    compiled = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    found = [compiled(x).clone() for _ in range(4)]  # run, recorded, replayed
    expected = model(x)
    assert all(relative(y, expected.double()) <= 2**-7 for y in found)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["fp8", "fp8_row", "fp8_128x128", "nvfp4", "int8_row", "int4_b128", "mxfp6_e2m3"])
def test_values_are_rounded_again_as_the_first_time(name):
    fmt, key = FORMATS[name], format_key(FORMATS[name])
    cases = [sample((130, 8192), torch.bfloat16).cuda() for _ in range(2)]
    cases[1] = cases[1].flip(0).contiguous()
    given = fmt.block.grid(130, 8192)
    magnitudes = torch.full(given, 3.0, device="cuda"), torch.full((), 3.0, device="cuda")
    for op in ("fake_quantize", "quantize"):
        for amax, outer in ((None, None), magnitudes):
            replay._KEPT.clear()
            run = KERNELS[op].run
            run(cases[0], amax, outer, key)
            assert amax is None or any(replay._KEPT.values()), "nothing is repeated"
            again = run(cases[1], amax, outer, key)
            replay._KEPT.clear()
            once = run(cases[1], amax, outer, key)
            pairs = zip(once, again, strict=True) if isinstance(once, (list, tuple)) else [(once, again)]
            for one, other in pairs:
                assert_same_bits(other, one, f"{op} {name}, repeated")


@pytest.mark.gpu
def test_a_compressed_model_generates_the_same_under_cuda_graphs_and_torch_compile():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(512, 1024), torch.nn.SiLU(), torch.nn.Linear(1024, 512))
    model = model.to("cuda", torch.bfloat16).eval()
    registry = Registry.load([hooks], discover=False)
    model = compress(quantize(model, "nvfp4_weight_only", registry=registry), registry=registry)
    x = torch.randn(4, 512, device="cuda", dtype=torch.bfloat16)
    expected = model(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = model(x)
    for _ in range(3):
        graph.replay()
    assert torch.equal(y, expected)
    assert torch.equal(torch.compile(model, fullgraph=True)(x), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 9])
def test_few_tokens_are_cut_off_at_a_calibrated_magnitude(tokens):
    device, fmt = torch.device("cuda"), FORMATS["fp8"]
    choice = choose_kernel(Use("linear", fmt, device, fmt, (1000, 4096)), specs.linear_specs())
    x = torch.randn(tokens, 4096, device=device, dtype=torch.bfloat16)
    amax = torch.full((1, 1), 2.0, device=device)  # so that some are cut off
    qdata, scale, _ = reference.quantize(torch.randn(1000, 4096, device=device), None, None, choice.key)
    y = choice.kernel.run(x, qdata, scale, None, amax, None, None, 1000, choice.key, choice.key)
    seen = reference.fake_quantize(x.float(), amax, None, choice.key).double()
    values = reference.dequantize(qdata, scale, None, 4096, torch.float32, choice.key).double()
    assert relative(y, seen @ values.T) <= 2**-9 + 2**-13


def language_model():
    """A small random Llama in bf16, a prompt [2, 12], and a registry with the kernels."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = LlamaConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, vocab_size=512
    )
    model = LlamaForCausalLM(sizes).to("cuda", torch.bfloat16).eval()
    prompt = torch.randint(0, 512, (2, 12), device="cuda")
    registry = Registry.load([hooks], discover=False)
    return model, prompt, registry


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["fp8", "nvfp4_weight_only"])
def test_a_compressed_language_model_generates_text_also_under_torch_compile(recipe):
    model, prompt, registry = language_model()
    model = compress(quantize(model, recipe, [{"input_ids": prompt}], registry=registry), registry=registry)
    options = {
        "max_new_tokens": 24,
        "do_sample": False,
        "attention_mask": torch.ones_like(prompt),
        "pad_token_id": 0,
    }
    plain = model.generate(prompt, **options)
    assert plain.shape == (2, 36)
    assert explains(model, plain, 12)
    forward = model.forward
    model.forward = torch.compile(forward)
    compiled = model.generate(prompt, cache_implementation="static", **options)
    model.forward = forward
    assert compiled.shape == (2, 36)
    assert explains(model, compiled, 12)


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["nvfp4_weight_only", "int4_weight_only"])
def test_a_compressed_language_model_continues_a_text_as_the_fake_quantized_one_does(recipe):
    model, prompt, registry = language_model()
    fake = quantize(model, recipe, [{"input_ids": prompt}], registry=registry)
    packed = compress(copy.deepcopy(fake), registry=registry)
    options = {"attention_mask": torch.ones_like(prompt), "pad_token_id": 0, "do_sample": False}
    text = packed.generate(prompt, max_new_tokens=24, **options)
    assert explains(fake, text, 12)  # both round to bf16 at the same places, so the same bound holds
    logits = [each(text).logits.float() for each in (packed, fake)]
    assert (logits[0] - logits[1]).abs().max() <= 2**-5 * logits[1].abs().max()


@torch.no_grad()
def explains(model, text, start):
    """Whether each token from `start` on was a most likely one after those before it: up to 16 roundings to bf16 of
    what flows through two layers, in which passes over one token and over all may differ: 16 · 2^-9."""
    logits = model(text[:, :-1]).logits[:, start - 1 :].float()
    chosen = logits.gather(-1, text[:, start:, None])[..., 0]
    return bool((logits.amax(-1) - chosen <= 2**-5 * logits.abs().amax()).all())
