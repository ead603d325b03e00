"""Stacked experts: their orientation comes from the products, each expert has its own scales."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtcore.calibration import as_forward_loop, resolve_algorithms, run_algorithms
from mtcore.calibration.algorithms.max import MAX
from mtcore.formats import builtin_formats
from mtcore.nn import ExpertsQuantModule, TensorQuantizer, builtin_quant_modules
from mtcore.nn.expert_rows import not_counted
from mtcore.numerics import dequantize
from mtcore.plan import make_plan
from mtcore.quantization import convert
from mtcore.quantization.collect import collect_artifact
from mtcore.recipe.setting import AlgorithmStep, QuantizeConfig, SlotRule, SlotSetting, default_mode
from mtcore.trace import StackedWeight, analyze

SPECS = {spec.name: spec for spec in builtin_quant_modules()}
FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
EXPERTS, HIDDEN, INNER = 3, 64, 32


class Experts(nn.Module):
    """Three experts; `transposed` ones hold [in, out]. Every token goes to two of them."""

    transposed = False

    def __init__(self) -> None:
        super().__init__()
        up, down = (EXPERTS, 2 * INNER, HIDDEN), (EXPERTS, HIDDEN, INNER)
        if self.transposed:
            up, down = (EXPERTS, HIDDEN, 2 * INNER), (EXPERTS, INNER, HIDDEN)
        self.gate_up_proj = nn.Parameter(torch.randn(up) * torch.tensor([1.0, 10, 0.1]).view(-1, 1, 1))
        self.down_proj = nn.Parameter(torch.randn(down))

    def product(self, x, weight):
        return x @ weight if self.transposed else F.linear(x, weight)

    def one(self, x, expert):
        gate, up = self.product(x, self.gate_up_proj[expert]).chunk(2, dim=-1)
        return self.product(F.silu(gate) * up, self.down_proj[expert])


class Loop(Experts):
    def forward(self, x, chosen):
        y = torch.zeros_like(x)
        for expert in range(EXPERTS):
            rows = (chosen == expert).any(dim=-1).nonzero().flatten()
            if len(rows):
                y.index_add_(0, rows, self.one(x[rows], torch.tensor(expert)))
        return y


class TransposedLoop(Loop):
    transposed = True


class Gathered(Experts):
    """One gathered matrix a token, as first factor of the product."""

    def forward(self, x, chosen):
        ids, tokens = chosen.flatten(), x.repeat_interleave(chosen.shape[1], dim=0)
        both = torch.bmm(self.gate_up_proj[ids], tokens.unsqueeze(-1)).squeeze(-1)
        gate, up = both.chunk(2, dim=-1)
        y = torch.bmm(self.down_proj[ids], (F.silu(gate) * up).unsqueeze(-1)).squeeze(-1)
        return y.view(*chosen.shape, -1).sum(1)


class Batched(Experts):
    """All experts on all tokens, in two products."""

    def forward(self, x, chosen):
        both = torch.bmm(x.expand(EXPERTS, -1, -1), self.gate_up_proj.transpose(1, 2))
        gate, up = both.chunk(2, dim=-1)
        y = torch.matmul(F.silu(gate) * up, self.down_proj.mT)  # [experts, tokens, hidden]
        return y[chosen, torch.arange(len(x)).unsqueeze(-1)].sum(1)


class Grouped(Experts):
    """Tokens sorted by expert, in two grouped products."""

    def forward(self, x, chosen):
        order = chosen.flatten().argsort(stable=True)
        ends = torch.bincount(chosen.flatten(), minlength=EXPERTS).cumsum(0).to(torch.int32)
        tokens = (x.repeat_interleave(chosen.shape[1], dim=0))[order]
        both = F.grouped_mm(tokens, self.gate_up_proj.transpose(-2, -1), offs=ends)
        gate, up = both.chunk(2, dim=-1)
        y = F.grouped_mm(F.silu(gate) * up, self.down_proj.transpose(-2, -1), offs=ends)
        return y[order.argsort()].view(*chosen.shape, -1).sum(1)


KINDS = [Loop, TransposedLoop, Gathered, Batched, Grouped]


def inputs():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, HIDDEN, generator=generator)
    chosen = torch.stack([torch.randperm(EXPERTS, generator=generator)[:2] for _ in range(7)])
    return x, chosen


class Model(nn.Module):
    def __init__(self, kind) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.experts = kind()

    def forward(self, x, chosen):
        return self.experts(x, chosen)


def config(weight: str, activation: str | None = None) -> QuantizeConfig:
    rules = [SlotRule("*weight_quantizer", SlotSetting(FORMATS[weight], "static"), True, "rule #1")]
    if activation is not None:
        mode = default_mode(FORMATS[activation], is_weight=False)
        rules.append(SlotRule("*.input_quantizer", SlotSetting(FORMATS[activation], mode), True, "rule #2"))
    return QuantizeConfig("test", tuple(rules))


def quantized(kind, weight: str, activation: str | None = None):
    model = Model(kind)
    plan = make_plan(model, config(weight, activation), SPECS, analyze(model, inputs()))
    assert not plan.errors, plan.errors
    _, journal = convert(model, plan, SPECS)
    steps = resolve_algorithms([AlgorithmStep("max")], {"max": MAX})
    run_algorithms(model, plan, steps, as_forward_loop([inputs()]))
    return model, plan, journal


@pytest.mark.parametrize("kind", KINDS)
def test_the_trace_tells_the_output_channels_by_what_a_product_contracts(kind):
    axis = 2 if kind.transposed else 1
    assert set(analyze(Model(kind), inputs()).stacked) == {
        StackedWeight("experts", "gate_up_proj", axis),
        StackedWeight("experts", "down_proj", axis),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["fp8", "nvfp4", "int8_row", "int4_b32_asym", "mxfp4"])
def test_every_expert_is_quantized_with_its_own_scales(kind, name):
    model, _, _ = quantized(kind, name)
    reference = Model(kind)
    for parameter in (reference.experts.gate_up_proj, reference.experts.down_proj):
        for expert in range(EXPERTS):
            one = TensorQuantizer(FORMATS[name], "static", channel_axis=1 if kind.transposed else 0)
            parameter.data[expert] = one(parameter.data[expert])
    expected = reference(*inputs())
    # The same values in the same products; gathered copies may be summed in another order.
    assert torch.allclose(model(*inputs()), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert not torch.allclose(expected, Model(kind)(*inputs()), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_meets_an_expert_is_quantized_in_front_of_both_products(kind):
    """A dynamic scale a token makes the result independent of how tokens are grouped."""
    model, plan, _ = quantized(kind, "fp8", "int8_row")
    assert [slot.slot for slot in plan["experts"].slots] == [
        "gate_up_proj", "down_proj", "gate_up_proj_input", "down_proj_input",
    ]  # fmt: skip
    quantize = TensorQuantizer(FORMATS["int8_row"], "dynamic")
    reference = Model(kind).experts
    for parameter in (reference.gate_up_proj, reference.down_proj):
        for expert in range(EXPERTS):
            one = TensorQuantizer(FORMATS["fp8"], "static", channel_axis=1 if kind.transposed else 0)
            parameter.data[expert] = one(parameter.data[expert])
    reference.product = lambda x, w: Experts.product(reference, quantize(x), w)
    x, chosen = inputs()
    expected = torch.stack([sum(reference.one(x[t : t + 1], e) for e in chosen[t])[0] for t in range(len(x))])
    # A value that lies on the edge between two codes may fall to either side: one step of 1/127 of a row.
    error = (model(x, chosen) - expected).abs().max() / expected.abs().max()
    assert error < 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", [None, "int8_row"])
def test_an_observer_is_shown_the_rows_that_each_expert_multiplies(kind, activation):
    model, _, _ = quantized(kind, "fp8", activation)
    x, chosen = inputs()
    quantize = nn.Identity() if activation is None else TensorQuantizer(FORMATS[activation], "dynamic")
    seen = {}
    model.experts.observer = lambda name, expert, rows: seen.setdefault((name, expert), []).append(rows)
    model(x, chosen)
    model.experts.observer = None
    assert set(seen) == {(name, e) for name in ("gate_up_proj", "down_proj") for e in range(EXPERTS)}
    for expert in range(EXPERTS):
        own = quantize(x if kind is Batched else x[(chosen == expert).any(1)])
        assert torch.equal(torch.cat(seen["gate_up_proj", expert]), own)
        assert torch.cat(seen["down_proj", expert]).shape == (len(own), INNER)


@pytest.mark.parametrize("kind", KINDS)
def test_with_quantizers_off_the_module_is_the_original_and_undo_puts_it_back(kind):
    before = Model(kind)(*inputs())
    model, _, journal = quantized(kind, "nvfp4", "fp8")
    assert isinstance(model.experts, ExpertsQuantModule)
    assert isinstance(model.experts, kind)
    assert not torch.equal(model(*inputs()), before)
    for _, quantizer in model.experts.quantizers():
        quantizer.disable()
    assert torch.equal(model(*inputs()), before)
    journal.undo()
    assert type(model.experts) is kind
    assert torch.equal(model(*inputs()), before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_artifact_holds_each_experts_matrix_with_channels_as_rows(kind):
    model, plan, _ = quantized(kind, "nvfp4", "fp8")
    artifact = collect_artifact(model, plan)
    module = artifact.modules["experts"]
    assert set(module.weights) == {f"{p}.{e}" for p in ("gate_up_proj", "down_proj") for e in range(EXPERTS)}
    assert set(module.activations) == {"gate_up_proj_input", "down_proj_input"}
    assert artifact.tensors == {}
    for slot, coded in module.weights.items():
        name, expert = slot.split(".")
        fake = model.experts.get_submodule(f"{name}_weight_quantizer")(getattr(model.experts, name))[int(expert)]
        assert torch.equal(dequantize(coded), fake.T if kind.transposed else fake)


def test_folding_the_weights_changes_no_output():
    model, _, _ = quantized(Loop, "nvfp4")
    before = model(*inputs())
    model.experts.fold_weights()
    assert model.experts.idle
    assert torch.equal(model(*inputs()), before)


def test_a_forward_that_raises_leaves_the_parameters_in_place():
    model, _, _ = quantized(Loop, "fp8")
    with pytest.raises(RuntimeError):
        model(torch.randn(7, HIDDEN + 1), inputs()[1])
    assert isinstance(model.experts.gate_up_proj, nn.Parameter)


def test_gradients_reach_the_stacked_weights_and_a_copy_is_independent():
    model, _, _ = quantized(Loop, "nvfp4", "fp8")
    model(*inputs()).sum().backward()
    assert model.experts.gate_up_proj.grad is not None
    other = copy.deepcopy(model)
    assert torch.equal(other(*inputs()), model(*inputs()))
    assert other.experts.down_proj is not model.experts.down_proj


def test_a_state_loads_into_a_fresh_conversion():
    model, plan, _ = quantized(Gathered, "fp8", "fp8")
    fresh = Model(Gathered)
    nn.init.zeros_(fresh.experts.down_proj)
    convert(fresh, plan, SPECS)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(*inputs()), model(*inputs()))


def test_blocks_that_do_not_divide_an_experts_matrix_are_an_error():
    model = Model(Loop)
    plan = make_plan(model, config("int4_b128"), SPECS, analyze(model, inputs()))
    assert [error.where for error in plan.errors] == ["experts", "experts"]
    assert "64 input features are not a multiple of block 128" in plan.errors[0].message


def test_a_parameter_of_three_axes_that_no_product_contracts_is_left_alone():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(1, 7, HIDDEN))
            self.out = nn.Linear(HIDDEN, HIDDEN)

        def forward(self, x):
            return self.out(x + self.table)

    model = Positions()
    assert analyze(model, torch.randn(2, 7, HIDDEN)).stacked == ()


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_expert_are_counted_however_they_are_computed(kind, enabled):
    model, _, _ = quantized(kind, "fp8", "int8_row")
    for module in model.modules():
        if isinstance(module, TensorQuantizer) and not enabled:
            module.disable()
    seen = []
    handle = model.experts.expert_rows.register_forward_hook(lambda _, __, rows: seen.append(rows))
    x, chosen = inputs()
    watched = model(x, chosen)
    with not_counted():
        model(x, chosen)
    handle.remove()
    assert torch.equal(model(x, chosen), watched)
    (rows,) = seen
    expected = torch.bincount(chosen.flatten(), minlength=EXPERTS) if kind is not Batched else torch.full((3,), 7)
    assert torch.equal(rows, expected[None].float())


class Sums(Experts):
    """An einsum, which is no product that is followed."""

    def forward(self, x, chosen):
        self.product(x, self.gate_up_proj[0])
        index = torch.arange(EXPERTS)[chosen[:, :1]]
        return torch.matmul(self.down_proj[index], x[:, None, :INNER, None]).sum(1)


def test_what_cannot_be_counted_is_not_told():
    model, _, _ = quantized(Sums, "fp8")
    seen = []
    model.experts.expert_rows.register_forward_hook(lambda _, __, rows: seen.append(rows))
    model(*inputs())
    assert seen == [] or seen[0].shape == (1, EXPERTS)
