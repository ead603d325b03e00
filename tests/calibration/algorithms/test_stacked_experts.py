"""Algorithms treat the matrices of stacked experts as they treat the same experts written as a list of layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mtcore
from mtcore.calibration import sequential
from mtcore.errors import CalibrationError
from mtcore.plugins import Registry
from mtcore.quantization import apply_plan, quantized_of
from mtcore.recipe import load_config

EXPERTS, HIDDEN, INNER, REACHED = 4, 64, 32, 3


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_up_proj = nn.Linear(HIDDEN, 2 * INNER, bias=False)
        self.down_proj = nn.Linear(INNER, HIDDEN, bias=False)

    def forward(self, x):
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class Listed(nn.ModuleList):
    def __init__(self):
        super().__init__(Expert() for _ in range(EXPERTS))

    def one(self, expert, x):
        return self[expert](x)

    def forward(self, x, chosen):
        y = torch.zeros_like(x)
        for expert in range(EXPERTS):
            rows = (chosen == expert).any(dim=-1).nonzero().flatten()
            if len(rows):
                y.index_add_(0, rows, self.one(expert, x[rows]))
        return y


class Stacked(nn.Module):
    """The same experts in two parameters, [out, in] each, or [in, out] where `transposed`."""

    transposed = False

    def __init__(self):
        super().__init__()
        listed = Listed()
        for name in ("gate_up_proj", "down_proj"):
            stack = torch.stack([getattr(expert, name).weight.detach() for expert in listed])
            self.register_parameter(name, nn.Parameter(stack.mT.contiguous() if self.transposed else stack))

    def product(self, x, weight):
        return x @ weight if self.transposed else F.linear(x, weight)

    def one(self, expert, x):
        gate, up = self.product(x, self.gate_up_proj[expert]).chunk(2, dim=-1)
        return self.product(F.silu(gate) * up, self.down_proj[expert])

    forward = Listed.forward


class Transposed(Stacked):
    transposed = True


class Block(nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.attention, self.router = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, EXPERTS)
        self.experts = experts()

    def forward(self, x):
        x = x + self.attention(x)
        chosen = self.router(x)[:, :REACHED].topk(2).indices  # nothing is ever sent to the last expert
        return x + self.experts(x, chosen)


class Model(nn.Module):
    def __init__(self, experts, block=Block):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(block(experts) for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def mixed_tokens():
    """Three batches of tokens whose channels depend on each other."""
    generator = torch.Generator().manual_seed(5)
    mixing = torch.randn(HIDDEN, HIDDEN, generator=generator) / 6 + torch.eye(HIDDEN)
    return [torch.randn(64, HIDDEN, generator=generator) @ mixing for _ in range(3)]


@pytest.fixture
def data():
    return mixed_tokens()


def recipe(weight, activation=None, method="gptq", **options):
    rules = [{"weight": weight, **({} if activation is None else {"input": activation})}]
    return {"rules": rules, "experts": {"unseen": "siblings"}, "algorithm": {"method": method, **options}}


def experts_of(model):
    """(values [out, in], codes and scales) of every expert's matrices."""
    for layer in model.layers:
        for expert in range(EXPERTS):
            for name in ("gate_up_proj", "down_proj"):
                if isinstance(layer.experts, nn.ModuleList):
                    linear = layer.experts[expert].get_submodule(name)
                    weight, quantizer = linear.weight, linear.weight_quantizer
                else:
                    weight = getattr(layer.experts, name)[expert]
                    quantizer = getattr(layer.experts, f"{name}_weight_quantizer")[expert]
                transposed = isinstance(layer.experts, Transposed)
                yield weight.mT if transposed else weight, quantizer.quantize(weight)


def error_after(kind, algorithm, data):
    """The squared error of the quantized model's outputs; without its quantizers it is as it was, bit for bit."""
    wanted = [Model(kind)(x) for x in data]
    model = Model(kind)
    quantized = mtcore.quantize(model, {**recipe("int4_b32"), "algorithm": algorithm}, data)
    found = sum(float((quantized(x) - y).square().sum()) for x, y in zip(data, wanted, strict=True))
    mtcore.undo(quantized)
    assert all(torch.equal(model(x), y) for x, y in zip(data, wanted, strict=True))
    return found


def same(one, other):
    """Whether codes and scales are the same, bit for bit."""
    tensors, others = one.tensors(), other.tensors()
    return set(tensors) == set(others) and all(torch.equal(tensors[name], others[name]) for name in tensors)


@torch.no_grad()
@pytest.mark.parametrize(
    "how",
    [recipe("nvfp4"), recipe("int4_b32"), recipe("fp8"), recipe("nvfp4", sequential="blocks"),
     recipe("int4_b32", "int8_row", correct=False),
     recipe("int4_b32", sequential="none"),
     recipe("int4_b32", method="local_hessian"), recipe("nvfp4", "nvfp4", method="local_hessian"),
     recipe("int4_b32", method="awq", variant="clip"),
     recipe("int4_b32", "int8_row", method="autoround", steps=6),
     recipe("nvfp4", method="autoround", steps=6, direction="signed", norms=0.01),
     recipe("int4_b32", method="autoround", steps=4, scope="model")],
    ids=["nvfp4", "int4", "fp8", "blocks", "inputs", "at once", "local_hessian", "local_hessian nvfp4", "clip",
         "autoround",
         "autoround signed", "autoround model"],
)  # fmt: skip
def test_codes_and_scales_are_those_of_the_same_experts_as_a_list(how, data):
    listed, stacked = (list(experts_of(mtcore.quantize(Model(kind), how, data))) for kind in (Listed, Stacked))
    for (weight, coded), (other, expected) in zip(stacked, listed, strict=True):
        assert torch.equal(weight, other)
        assert same(coded, expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", [Stacked, Transposed])
def test_the_models_outputs_are_closer_than_with_max_and_undo_puts_all_back(kind, data):
    assert error_after(kind, "gptq", data) < error_after(kind, "max", data)


@torch.no_grad()
def test_an_expert_without_tokens_is_rounded_to_nearest_as_with_max(data):
    rounded, plain = (
        list(experts_of(mtcore.quantize(Model(Stacked), {**recipe("nvfp4"), "algorithm": method}, data)))
        for method in ("gptq", "max")
    )
    last = slice(2 * REACHED, 2 * EXPERTS)
    for (weight, coded), (before, expected) in zip(rounded[last], plain[last], strict=True):
        assert torch.equal(weight, before)
        assert same(coded, expected)
    assert not same(rounded[0][1], plain[0][1])


@torch.no_grad()
def test_the_summary_counts_unseen_experts_and_compares_with_the_weights_before_rounding(data):
    model, registry = Model(Stacked), Registry.load(discover=False)
    plan = mtcore.plan_model(model, recipe("int4_b32"), inputs=data[0], registry=registry)
    told = quantized_of(apply_plan(model, plan, data, registry=registry, summary=True)).summary
    stacks = [f"layers.{layer}.experts.{name}" for layer in range(2) for name in ("gate_up_proj", "down_proj")]
    assert len(told.notes) == len(stacks)
    for note, stack in zip(told.notes, stacks, strict=True):
        assert note.startswith(f"{stack}: 1 of {EXPERTS} experts got no token")
    assert {expert.name for expert in told.starved} == {f"layers.{layer}.experts[{REACHED}]" for layer in range(2)}
    found = {layer.name: layer for layer in told.layers if layer.stacked}
    assert set(found) == set(stacks)
    assert all(
        10 < layer.weight_sqnr < 30 for layer in found.values()
    )  # 4 bits: near 20 dB; written codes: infinite


@torch.no_grad()
def test_experts_in_turn_are_rounded_as_all_at_once(data, monkeypatch):
    at_once = list(experts_of(mtcore.quantize(Model(Stacked), recipe("nvfp4"), data)))
    monkeypatch.setattr(sequential, "MOST_BYTES", 1)
    in_turn = list(experts_of(mtcore.quantize(Model(Stacked), recipe("nvfp4"), data)))
    assert all(torch.equal(one, other) for (one, _), (other, _) in zip(in_turn, at_once, strict=True))


@torch.no_grad()
@pytest.mark.parametrize(
    "algorithm",
    [{"method": "local_hessian"}, {"method": "awq", "variant": "clip"}, {"method": "autoround", "steps": 40}],
    ids=lambda algorithm: algorithm["method"],
)
@pytest.mark.parametrize("kind", [Stacked, Transposed])
def test_outputs_lose_less_than_with_max_in_either_layout(kind, algorithm, data):
    assert error_after(kind, algorithm, data) < error_after(kind, "max", data)


@pytest.mark.parametrize("method", ["local_hessian", "awq"])
def test_an_expert_without_tokens_is_named_where_the_recipe_has_no_word_for_it(method, data):
    options = {"variant": "clip"} if method == "awq" else {}
    how = {"rules": [{"weight": "int4_b32"}], "algorithm": {"method": method, **options}}
    with pytest.raises(CalibrationError, match=rf"layers\.0\.experts\.gate_up_proj\.{REACHED}.*experts\.unseen"):
        mtcore.quantize(Model(Stacked), how, data)


@pytest.mark.parametrize(
    ("algorithm", "left"),
    [("local_hessian", False), ("autoround", False), ("{method: awq, variant: clip}", False), ("awq", False),
     ("smoothquant", False), ("svdquant", True)],
)  # fmt: skip
def test_the_plan_names_stacked_experts_that_an_algorithm_leaves_and_those_alone(algorithm, left, data):
    registry = Registry.load(discover=False)
    how = load_config(
        "int8_weight_only",
        formats=registry.formats,
        recipes=registry.recipes,
        overrides=[f"algorithm={algorithm}"],
    )
    plan = mtcore.plan_model(Model(Stacked), how, inputs=data[0], registry=registry)
    told = [finding.message for finding in plan.findings if "get the scales of max" in finding.message]
    assert bool(told) == left
    assert all("layers.0.experts.gate_up_proj" in message for message in told)
