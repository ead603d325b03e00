"""MultiheadAttention: the written-out attention is torch's, masks and all; nothing bypasses a quantizer."""

import copy

import pytest
import torch
from torch import nn

from mtcore.formats import builtin_formats
from mtcore.nn import QuantLinear, QuantMultiheadAttention, TensorQuantizer, builtin_quant_modules
from mtcore.plan import make_plan
from mtcore.quantization import convert
from mtcore.recipe.setting import QuantizeConfig, SlotRule, SlotSetting

SPECS = {spec.name: spec for spec in builtin_quant_modules()}
FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
CAUSAL = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
PADDING = torch.tensor([[False, False, False, False, True], [False, False, False, True, True]])


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


class Same(nn.Module):
    """Not an identity to the layer, so that it takes the written-out way."""

    def forward(self, x):
        return x


def twin_of(layer: nn.MultiheadAttention, **quantizers) -> QuantMultiheadAttention:
    spec = SPECS["nn.MultiheadAttention"]
    slots = [*(n for n, p in layer._parameters.items() if p is not None and n.endswith("weight"))]
    return spec.quantized.from_original(
        layer, {slot: nn.Identity() for slot in (*slots, *spec.activations)} | quantizers
    )


@pytest.mark.parametrize(
    "options", [{}, {"add_bias_kv": True, "add_zero_attn": True}, {"kdim": 4, "vdim": 6}], ids=str
)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    "masks",
    [
        {},
        {"attn_mask": CAUSAL},
        {"attn_mask": CAUSAL.float() * -1e4},
        {"key_padding_mask": PADDING},
        {"attn_mask": CAUSAL, "key_padding_mask": PADDING},
        {"attn_mask": torch.zeros(4, 5, 5)},
        {"need_weights": False},
        {"average_attn_weights": False},
    ],
    ids=lambda masks: "+".join(masks) or "plain",
)
def test_the_written_out_attention_is_that_of_torch(options, batch_first, masks):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=batch_first, **options).eval()
    q, k, v = (
        torch.randn(2, 5, 8),
        torch.randn(2, 5, options.get("kdim", 8)),
        torch.randn(2, 5, options.get("vdim", 8)),
    )
    if not batch_first:
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    actual, actual_weights = twin_of(layer, softmax=Same())(q, k, v, **masks)
    expected, weights = layer(q, k, v, **masks)
    assert torch.allclose(actual, expected, atol=1e-5)
    assert (weights is None) == (actual_weights is None)
    assert weights is None or torch.allclose(actual_weights, weights, atol=1e-6)


def test_an_unbatched_sequence_is_accepted():
    layer = nn.MultiheadAttention(8, 2).eval()
    x = torch.randn(5, 8)
    actual, expected = twin_of(layer, q=Same())(x, x, x), layer(x, x, x)
    assert torch.allclose(actual[0], expected[0], atol=1e-5)
    assert torch.allclose(actual[1], expected[1], atol=1e-6)


@pytest.mark.parametrize(("slot", "rows"), [("q", slice(0, 8)), ("k", slice(8, 16)), ("v", slice(16, 24))])
def test_each_operand_has_its_own_quantizer(slot, rows):
    """Doubling q, k or v is the same as doubling the rows of the projection that make it."""
    layer = nn.MultiheadAttention(8, 2, bias=False).eval()
    doubled = copy.deepcopy(layer)
    doubled.in_proj_weight.data[rows] *= 2
    x = torch.randn(5, 2, 8)
    twin = twin_of(layer, **{slot: Doubled()})
    assert torch.allclose(twin(x, x, x)[0], doubled(x, x, x)[0], atol=1e-5)


def config(*patterns: str) -> QuantizeConfig:
    rules = [
        SlotRule(p, SlotSetting(FORMATS["fp8"], "dynamic"), True, f"rule #{i}") for i, p in enumerate(patterns)
    ]
    return QuantizeConfig("test", tuple(rules), max_unquantized=1.0)


def test_the_output_projection_is_quantized_with_the_layer_that_reads_it():
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(16, 2)}).eval()
    plan = make_plan(model, config("*weight_quantizer", "*input_quantizer"), SPECS)
    assert {m.name: [s.slot for s in m.slots] for m in plan.quantized} == {
        "attn": ["in_proj_weight", "input"],
        "attn.out_proj": ["weight", "input"],
    }
    original = copy.deepcopy(model["attn"])
    convert(model, plan, SPECS)
    attn = model["attn"]
    assert isinstance(attn.out_proj, QuantLinear)
    x = torch.randn(5, 2, 16)
    with torch.no_grad():
        y = attn(x, x, x, need_weights=False)[0]
        fast = twin_of(original, in_proj_weight=attn.in_proj_weight_weight_quantizer)(x, x, x, need_weights=False)[
            0
        ]
    assert not torch.allclose(y, fast, atol=1e-6)
    attn.out_proj.input_quantizer.disable()
    original.out_proj.weight.data = attn.out_proj.weight_quantizer(original.out_proj.weight).data
    original.in_proj_weight.data = attn.in_proj_weight_weight_quantizer(original.in_proj_weight).data
    xq = attn.input_quantizer(x)
    assert torch.allclose(attn(x, x, x)[0], original(xq, xq, xq)[0], atol=1e-6)


def test_an_output_projection_alone_would_never_be_called_and_stays():
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(16, 2)})
    plan = make_plan(model, config("attn.out_proj.weight_quantizer"), SPECS)
    assert plan.quantized == ()
    assert "attn reads it without calling it" in plan["attn.out_proj"].reason


@pytest.mark.parametrize("training", [False, True])
def test_the_fast_path_of_a_transformer_layer_bypasses_no_quantizer(training):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 1).train(training)
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        before = model(x)
    _, journal = convert(model, make_plan(model, config("*weight_quantizer", "*input_quantizer"), SPECS), SPECS)
    seen = []

    class Spy:
        def update(self, matrix):
            seen.append(matrix.shape)

    quantizers = [q for q in model.modules() if isinstance(q, TensorQuantizer)]
    for quantizer in quantizers:
        quantizer.observer = Spy()
    with torch.no_grad():
        assert not torch.equal(model(x), before)
        model(x, src_key_padding_mask=torch.zeros(2, 5, dtype=torch.bool))
    assert len(seen) == 2 * len(quantizers) == 2 * 8
    journal.undo()
    with torch.no_grad():
        assert torch.equal(model(x), before)
