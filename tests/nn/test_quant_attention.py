"""Attention of any class: found by the trace, quantized where its operands meet, and left alone otherwise."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtcore.errors import ModelError
from mtcore.formats import builtin_formats
from mtcore.nn import AttentionQuantModule, TensorQuantizer, builtin_quant_modules
from mtcore.plan import make_plan, plan_from_dict, plan_to_dict
from mtcore.quantization import convert
from mtcore.recipe.setting import QuantizeConfig, SlotRule, SlotSetting
from mtcore.trace import AttentionSite, TraceReport, analyze

SPECS = {spec.name: spec for spec in builtin_quant_modules()}
FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
HEADS = 2


def far_away(q, k, v, **options):
    """A helper, as libraries have one for every kind of attention."""
    return F.scaled_dot_product_attention(q, key=k, value=v, **options)


class Projections(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.o_proj = nn.Linear(width, width)

    def heads(self, x):
        return (p(x).view(*x.shape[:2], HEADS, -1).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))

    def join(self, y):
        return self.o_proj(y.transpose(1, 2).flatten(2))


class Fused(Projections):
    def forward(self, x):
        return self.join(far_away(*self.heads(x), is_causal=True))


class WrittenOut(Projections):
    """The eager form, with a mask, a cast and a dropout between the products."""

    def forward(self, x, *, twice=False):
        q, k, v = self.heads(x)
        if twice:
            torch.matmul(x, x.transpose(-1, -2))
        scores = torch.matmul(q, k.transpose(2, 3)) * q.shape[-1] ** -0.5
        scores = scores + torch.full(scores.shape[-2:], -1e9).triu(1)
        p = F.dropout(F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype), p=0.0)
        return self.join(torch.matmul(p, v))


class WithSinks(Projections):
    """A column more in the softmax that takes part in no product; flattened heads and bmm."""

    def forward(self, x):
        q, k, v = (h.flatten(0, 1) for h in self.heads(x))
        scores = torch.baddbmm(torch.zeros(()), q, k.mT, alpha=q.shape[-1] ** -0.5)
        scores = scores + torch.full(scores.shape[-2:], -1e9).triu(1)
        scores = torch.cat([scores, torch.full_like(scores[..., :1], -1e9)], dim=-1)
        y = scores.softmax(-1)[..., :-1] @ v
        return self.join(y.view(-1, HEADS, *y.shape[1:]))


class Router(nn.Module):
    """A softmax between two products with weights is no attention."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.table = nn.Parameter(torch.randn(16, 4)), nn.Parameter(torch.randn(4, 16))

    def forward(self, x):
        return torch.softmax(x @ self.gate, -1) @ self.table


def x_of(seed: int = 1) -> torch.Tensor:
    return torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(seed))


def model_of(kind) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(kind()).eval()


def rules(**slots: str) -> QuantizeConfig:
    made = [
        SlotRule(f"*.{slot}_quantizer", SlotSetting(FORMATS[name], "dynamic"), True, f"rule {slot}")
        for slot, name in slots.items()
    ]
    return QuantizeConfig("test", tuple(made), max_unquantized=1.0)


def quantized(kind, **slots: str):
    model = model_of(kind)
    plan = make_plan(model, rules(**slots), SPECS, analyze(model, x_of()))
    assert not plan.errors, plan.errors
    convert(model, plan, SPECS)
    return model


def by_hand(kind, **slots: str) -> torch.Tensor:
    """Attention spelt out with every operand quantized by a plain quantizer."""
    layer = model_of(kind)[0]
    quantize = {
        slot: TensorQuantizer(FORMATS[slots[slot]], "dynamic") if slot in slots else nn.Identity()
        for slot in ("q", "k", "v", "softmax")
    }
    q, k, v = layer.heads(x_of())
    scores = quantize["q"](q) @ quantize["k"](k).mT * q.shape[-1] ** -0.5
    p = (scores + torch.full(scores.shape[-2:], -1e9).triu(1)).softmax(-1)
    return layer.join(quantize["softmax"](p) @ quantize["v"](v))


KINDS = [Fused, WrittenOut, WithSinks]


def test_the_trace_tells_fused_from_written_out_attention_and_both_from_a_router():
    assert analyze(model_of(Fused), x_of()).attentions == (AttentionSite("0", "sdpa"),)
    for kind in (WrittenOut, WithSinks):
        site = AttentionSite("0", "products", (0,), (1,), 2)
        report = analyze(model_of(kind), x_of())
        assert report.attentions == (site,)
        assert TraceReport.from_json(report.to_json()) == report
    assert analyze(model_of(Router), x_of()).attentions == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "slots",
    [
        {"k": "fp8", "v": "fp8"},
        {"q": "int8_row"},
        {"q": "fp8", "k": "nvfp4", "v": "mxfp8_e4m3", "softmax": "fp8"},
    ],
    ids=lambda slots: "+".join(slots),
)
def test_each_operand_of_attention_is_quantized(kind, slots):
    """Other orders of sums: 64 fp32 roundings of values below 4."""
    actual, expected = quantized(kind, **slots)(x_of()), by_hand(kind, **slots)
    plain = model_of(kind)(x_of())
    assert torch.allclose(actual, expected, atol=64 * 2**-22)
    assert not torch.allclose(plain, expected, atol=64 * 2**-22)


@pytest.mark.parametrize("kind", KINDS)
def test_with_its_quantizers_off_the_layer_is_the_original_bit_for_bit_and_undo_puts_it_back(kind):
    model = model_of(kind)
    original, before = model[0], model(x_of())
    plan = make_plan(model, rules(q="fp8", k="fp8", v="fp8"), SPECS, analyze(model, x_of()))
    _, journal = convert(model, plan, SPECS)
    assert isinstance(model[0], AttentionQuantModule)
    assert isinstance(model[0], kind)
    for _, quantizer in model[0].quantizers():
        quantizer.disable()
    assert torch.equal(model(x_of()), before)
    journal.undo()
    assert model[0] is original
    assert torch.equal(model(x_of()), before)


def test_children_are_quantized_along_with_their_attention():
    model = model_of(Fused)
    plan = make_plan(model, rules(weight="fp8_row", k="fp8"), SPECS, analyze(model, x_of()))
    assert [m.name for m in plan.quantized] == ["0", "0.q_proj", "0.k_proj", "0.v_proj", "0.o_proj"]
    convert(model, plan, SPECS)
    assert type(model[0].k_proj).__name__ == "QuantLinear"
    x = x_of()
    quantizers = [q for q in model.modules() if isinstance(q, TensorQuantizer)]
    assert len(quantizers) == 5
    assert not torch.equal(model(x), by_hand(Fused, k="fp8"))


def test_a_plan_carries_what_the_trace_found_to_a_fresh_model():
    model = model_of(WrittenOut)
    plan = make_plan(model, rules(v="fp8"), SPECS, analyze(model, x_of()))
    again = plan_from_dict(plan_to_dict(plan))
    assert again == plan
    convert(model, again, SPECS)
    assert torch.allclose(model(x_of()), by_hand(WrittenOut, v="fp8"), atol=64 * 2**-22)


def test_another_number_of_products_than_traced_is_refused():
    model = quantized(WrittenOut, v="fp8")
    with pytest.raises(ModelError, match="makes 3 matrix products here, and made 2"):
        model[0](x_of(), twice=True)


def test_without_a_trace_no_attention_is_found_and_the_rule_says_so():
    plan = make_plan(model_of(Fused), rules(k="fp8"), SPECS)
    assert any("matches no quantizer" in error.message for error in plan.errors)


def test_attention_around_attention_is_left_alone():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Fused()

        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, self.inner(x))

    model = nn.Sequential(Outer())
    plan = make_plan(model, rules(k="fp8"), SPECS, analyze(model, x_of()))
    assert [m.name for m in plan.quantized] == ["0.inner"]
    assert any("0.inner inside it computes attention too" in f.message for f in plan.findings)


def test_a_copy_of_a_quantized_attention_is_its_own():
    model = quantized(WrittenOut, k="fp8")
    other = copy.deepcopy(model)
    assert torch.equal(other(x_of()), model(x_of()))
    assert type(other[0]) is type(model[0])
    assert other[0].k_proj.weight is not model[0].k_proj.weight


def test_a_derived_twin_can_be_pickled_where_the_original_class_can_be_imported():
    twin = AttentionQuantModule.from_original(nn.Linear(2, 2), dict.fromkeys("qkv", nn.Identity()))
    other = pickle.loads(pickle.dumps(twin))
    assert type(other) is type(twin)
    assert isinstance(other, nn.Linear)
    assert other.slots == twin.slots
    assert torch.equal(other(torch.ones(2)), twin(torch.ones(2)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Fused, WrittenOut])
def test_a_quantized_attention_compiles_into_one_graph(kind):
    model = quantized(kind, q="fp8", k="fp8", v="fp8")
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x_of()), model(x_of()), atol=1e-6)
