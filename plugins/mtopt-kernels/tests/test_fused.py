"""Quantization that a compiler fuses: the reference's bits, also as Inductor compiles it, and once for siblings."""

import dataclasses
import math
import re
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._inductor.utils import run_and_get_code

from mtcore.backends import KernelSpec, format_key, reference
from mtcore.formats import builtin_formats
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.quantization import compress, quantize
from mtcore.testing.compare import assert_same_bits
from mtopt_kernels import fused, ops, specs

FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
KEYS = {name: format_key(fmt) for name, fmt in FORMATS.items()}
ON_CPU = torch.library.Library("mtopt_kernels", "FRAGMENT")
for kind in ("fp8", "int8"):
    ON_CPU.impl(f"linear_{kind}", reference.linear, "CPU")
    ON_CPU.impl(f"linears_{kind}", reference.linears, "CPU")
    ON_CPU.impl(f"linears_of_codes_{kind}", fused.linears_of_codes, "CPU")


@pytest.fixture(autouse=True)
def compiled_afresh():
    torch.compiler.reset()


def all_bf16():
    """Every bf16 there is, [256, 256]."""
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).reshape(256, 256)


def magnitudes():
    """Odd ones of all sizes, those of scales that are subnormal or zero, and what is no magnitude."""
    torch.manual_seed(0)
    sizes = torch.ldexp(1 + torch.rand(60), torch.randint(-149, 127, (60,)))
    near_one = 0.01 + 100 * torch.rand(60)
    return [*sizes.tolist(), *near_one.tolist(), 448.0, 127.5, 1.0, 0.0, -1.0, 1e-44, 3.4e38, math.inf, math.nan]


def scale_and_codes(x, amax, key):
    """What a compiler sees of a calibrated or an own magnitude, with the scale."""
    units = fused.units_of(key)
    scale = fused.scale_of(fused.amax_of(x, units) if amax is None else amax.reshape(1, 1), units)
    return fused.codes_of(x, scale, units), scale


def assert_as_the_reference(found, x, amax, key):
    for got, wanted, what in zip(found, reference.quantize(x, amax, None, key), ("codes", "scales"), strict=False):
        assert_same_bits(got, wanted, f"{what} for {amax}")


@pytest.mark.parametrize("backend", ["eager", "inductor"])
@pytest.mark.parametrize("name", ["fp8", "int8"])
def test_all_values_of_bf16_times_many_scales_have_the_codes_of_the_reference(name, backend):
    compiled = torch.compile(scale_and_codes, fullgraph=True, backend=backend)
    x = all_bf16()
    for magnitude in magnitudes():
        amax = torch.tensor([[magnitude]])
        assert_as_the_reference(compiled(x, amax, KEYS[name]), x, amax, KEYS[name])


@pytest.mark.parametrize("backend", ["eager", "inductor"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["fp8_row", "int8_row", "int8_row_full", "fp8_1x128"])
def test_scales_of_rows_and_runs_are_those_of_the_reference(name, dtype, backend):
    compiled = torch.compile(scale_and_codes, fullgraph=True, backend=backend, dynamic=False)
    torch.manual_seed(0)
    for rows, cols in ((7, 256), (5, 384), (1, 128)):
        x = torch.randn(rows, cols).mul(torch.logspace(-42, 30, rows)[:, None]).to(dtype)
        x[0, 0], x[-1, -1] = -0.0, 0.0
        assert_as_the_reference(compiled(x, None, KEYS[name]), x, None, KEYS[name])
        x[rows // 2, 3], x[-1, 5] = math.nan, -math.inf
        assert_as_the_reference(compiled(x, None, KEYS[name]), x, None, KEYS[name])


@pytest.mark.parametrize("name", ["fp8", "int8", "int8_row_full"])
def test_scales_are_correctly_rounded_quotients_subnormal_ones_included(name):
    units = fused.units_of(KEYS[name])
    torch.manual_seed(0)
    bits = torch.randint(0, 0x7F800000, (2**20,), dtype=torch.int32)
    subnormal = torch.arange(2**20, dtype=torch.int32)  # of scales: those of the least magnitudes are 0
    tied = (torch.arange(1.0, 2**20, 2).double() * units.target * 2.0**-150).float()  # halfway between two scales
    amax = torch.cat((bits.view(torch.float32), subnormal.view(torch.float32), tied))
    wanted = torch.where(amax / units.target == 0, 1.0, amax / torch.tensor(units.target))
    assert_same_bits(fused.scale_of(amax, units), wanted, "scales")


def test_quotients_beside_a_midpoint_are_rounded_to_the_right_side():
    """Values that are nearest to midpoints of fp32 times a scale; the steps of e4m3 hide what happens to most."""
    torch.manual_seed(0)
    scale = torch.ldexp(1 + torch.rand(2**20), torch.randint(-20, 20, (2**20,)))
    midpoint = torch.randint(2**24, 2**25, (2**20,)).double() // 2 * 2 + 1
    nearest = (midpoint * scale.double()).float()
    beside = (torch.nextafter(nearest, torch.tensor(end)) for end in (0.0, math.inf))
    for x in (nearest, *beside):
        quotient = (x.double() * scale.double().reciprocal()).float()
        assert_same_bits(quotient, x / scale, "quotients")


def test_a_value_that_is_rounded_from_fp64_has_the_code_of_the_rounded_one():
    tie, scale = 29 / 16, 9 / 8  # halfway between two codes; the product is just above a power of two
    x = torch.tensor([[tie * scale + 1.5 * 2.0**-24]], dtype=torch.float64)  # which fp32 rounds to the product

    def code(x):
        return fused.codes_of((x * 1.0).float(), torch.full((1, 1), scale), fused.units_of(KEYS["fp8"]))

    assert torch.compile(code, fullgraph=True)(x).float() == 1.75  # not 1.875, as for x itself


@pytest.mark.parametrize("name", ["fp8_row", "int8_row"])
def test_codes_are_those_of_the_values_that_the_graph_gives_not_of_what_was_there_before_rounding(name):
    def normed(x, weight):
        y = (x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * weight
        y = F.silu(y) * x
        return y, *scale_and_codes(y, None, KEYS[name])

    torch.manual_seed(0)
    x, weight = torch.randn(64, 512).bfloat16(), torch.randn(512).bfloat16()
    y, *found = torch.compile(normed, fullgraph=True)(x, weight)
    assert_as_the_reference(found, y, None, KEYS[name])


class Gated(nn.Module):
    """Two layers that read one value, after a norm, and a third."""

    def __init__(self):
        super().__init__()
        self.norm = nn.RMSNorm(128)
        self.gate, self.up = nn.Linear(128, 256), nn.Linear(128, 256, bias=False)
        self.down = nn.Linear(256, 128)

    def forward(self, x):
        x = self.norm(x)
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Kernels:
    @hookimpl
    def mtcore_kernels(self):
        for name, refuses in (("fp8", specs.refuses_fp8_linear), ("int8", specs.refuses_int8_linear)):
            alone, together = getattr(ops, f"{name}_linear"), getattr(ops, f"{name}_linears")
            yield KernelSpec(f"test.{name}", "linear", refuses, alone, 20, None, together)


def packed(recipe, *, together=True):
    """A compressed model in bf16 whose products are the plugin's, by the reference, and inputs."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 128).bfloat16()
    registry = Registry.load([Kernels()], discover=False)
    model = quantize(nn.Sequential(Gated(), Gated()).bfloat16().eval(), recipe, [x], registry=registry)
    return compress(model, registry=registry, together=together), x


class Recorded:
    """A backend that keeps what there is of the plugin and of codes in the graphs that it compiles."""

    def __init__(self):
        self.operations, self.quantized, self.graphs = [], [], 0

    def __call__(self, graph, inputs):
        return aot_autograd(fw_compiler=self.lowered)(graph, inputs)

    def lowered(self, graph, inputs):
        self.graphs += 1
        for node in graph.graph.nodes:
            if "mtopt_kernels" in str(node.target):
                self.operations.append(str(node.target).removeprefix("mtopt_kernels.").removesuffix(".default"))
            if "convert_element_type" in str(node.target) or "_to_copy" in str(node.target):
                self.quantized += [node] if node.meta["val"].dtype in (torch.float8_e4m3fn, torch.int8) else []
        return graph


@pytest.mark.parametrize("recipe", ["fp8", "fp8_row", "fp8_block", "int8", "int8_static"])
@pytest.mark.parametrize("together", [True, False])
def test_a_compiled_model_gives_the_bits_of_the_eager_one_and_quantizes_in_the_graph(recipe, together):
    model, x = packed(recipe, together=together)
    expected = model(x)
    recorded = Recorded()
    assert torch.equal(torch.compile(model, backend=recorded, fullgraph=True)(x), expected)
    products = 2 if together else 3  # of each of two
    assert recorded.operations == [f"linears_of_codes_{recipe[:4].rstrip('_')}"] * 2 * products
    assert len(recorded.quantized) == 2 * products


def test_layers_alone_that_read_one_value_quantize_it_in_one_kernel():
    model, x = packed("int8", together=False)
    with torch.no_grad():
        _, (code,) = run_and_get_code(torch.compile(model[0], fullgraph=True), x)
    assert code.count("linears_of_codes_int8.default(") == 3
    assert len(re.findall(r"^ +cpp_fused\w+\(", code, re.MULTILINE)) == 2  # norm and codes; silu, product and codes


def test_one_graph_serves_all_numbers_of_tokens():
    model, _ = packed("int8")
    compiled = torch.compile(model, backend=(recorded := Recorded()), fullgraph=True)
    for tokens in (7, 3, 12, 80):
        x = torch.randn(1, tokens, 128).bfloat16()
        torch._dynamo.mark_dynamic(x, 1, min=2, max=512)
        assert torch.equal(compiled(x), model(x))
    assert recorded.graphs == 1


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("recipe", ["fp8", "int8", "fp8_block"])
def test_an_exported_model_quantizes_in_its_graph_and_gives_the_same_bits(recipe, strict):
    model, x = packed(recipe)
    tokens = torch.export.Dim("tokens", min=2, max=512)
    exported = torch.export.export(model, (x,), dynamic_shapes=({1: tokens},), strict=strict)
    graphs = [part.graph for part in exported.graph_module.modules()]  # what runs without gradients is a part
    names = [str(node.target) for graph in graphs for node in graph.nodes if "mtopt_kernels" in str(node.target)]
    assert names == [f"mtopt_kernels.linears_of_codes_{recipe[:4].rstrip('_')}.default"] * 4
    for other in (x, torch.randn(2, 3, 128).bfloat16()):
        assert torch.equal(exported.module()(other), model(other))


def test_autocast_changes_nothing():
    model, x = packed("fp8")
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(x)
        assert torch.equal(torch.compile(model, backend="aot_eager", fullgraph=True)(x), expected)


def test_an_amax_in_16_bits_counts_as_fp32():
    model, x = packed("fp8")
    model = model.to(torch.bfloat16)
    assert model[0].down.input_amax.dtype == torch.bfloat16
    amax = model[0].down.input_amax
    found = torch.compile(scale_and_codes, backend="aot_eager")(x[0], amax, KEYS["fp8"])
    assert_as_the_reference(found, x[0], amax.float().reshape(1, 1), KEYS["fp8"])


@pytest.mark.parametrize(
    ("name", "shape", "given"),
    [
        ("fp8", (4, 256), False),
        ("int8", (4, 256), False),
        ("int8_row", (4, 256), True),
        ("int8_row", (1, 14336), False),
        ("fp8_1x128", (4, 200), False),
        ("fp8_128x128", (256, 256), False),
        ("nvfp4", (4, 256), False),
        ("mxfp8_e4m3", (4, 256), False),
        ("fp8_e5m2", (4, 256), True),
    ],
)
def test_what_gains_nothing_from_fusion_or_has_no_product_stays_one_operation(name, shape, given):
    amax = torch.ones(1, 1) if given else None
    assert fused.quantized(torch.randn(shape), amax, KEYS[name]) is None


GAPS = []
"""Whether codes or scales that a product was given had gaps."""


def note_gaps(codes, input_scale, *others):
    GAPS.append(not codes.is_contiguous() or (input_scale is not None and not input_scale.is_contiguous()))
    return fused.linears_of_codes(codes, input_scale, *others)


NOTING_GAPS = fused.LINEARS_OF_CODES.implement("fused_gaps", note_gaps, "CPU")


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize(
    ("name", "weight"), [("fp8", "fp8"), ("int8_row", "int8_row"), ("fp8_1x128", "fp8_128x128")]
)
def test_a_product_is_given_codes_and_scales_without_gaps(name, weight, backend):
    amax = torch.ones(1, 1) if name == "fp8" else None
    qdata, scale, _ = reference.quantize(torch.randn(128, 256), None, None, KEYS[weight])

    def product(x):
        last = 128, KEYS[weight], KEYS[name]
        return fused.fused_linear(NOTING_GAPS, x.T, qdata, scale, None, amax, None, None, *last)

    GAPS.clear()
    x = torch.randn(256, 6).bfloat16()
    y = torch.compile(product, backend=backend, fullgraph=True)(x)
    assert GAPS == [False]
    assert torch.equal(
        y, reference.linear(x.T, qdata, scale, None, amax, None, None, 128, KEYS[weight], KEYS[name])
    )


def test_long_rows_are_fused_where_tokens_are_many():
    assert fused.quantized(torch.randn(fused.SPLIT_ROWS, 14336), None, KEYS["int8_row"]) is not None


def test_a_target_whose_inverse_is_too_far_off_is_not_fused():
    def off(target):
        return abs(Fraction(target) * Fraction(1 / target) - 1)

    target = next(t for t in (100 + i / 8 for i in range(200)) if off(t) > 2**-54)
    assert fused.units_of(format_key(dataclasses.replace(FORMATS["int8"], amax_to=target))) is None
    assert all(off(fused.units_of(KEYS[name]).target) <= 2**-54 for name in ("fp8", "int8", "int8_row_full"))


def test_an_eager_model_calls_one_operation_for_each_product(monkeypatch):
    monkeypatch.setattr(fused, "quantized", None)
    model, x = packed("fp8")
    assert model(x).shape == x.shape
