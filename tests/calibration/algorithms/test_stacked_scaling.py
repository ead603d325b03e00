"""`smoothquant` and `awq` scale stacked experts through folds as the same experts in a list of layers."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mtcore
from mtcore.errors import CalibrationError
from tests.calibration.algorithms import test_stacked_experts
from tests.calibration.algorithms.test_stacked_experts import (
    EXPERTS,
    HIDDEN,
    REACHED,
    Listed,
    Stacked,
    Transposed,
    experts_of,
    mixed_tokens,
    same,
)


def dispatch(self, x, chosen, share):
    """As in Mixtral: the rows of each expert, weighted by the router."""
    y, mask = torch.zeros_like(x), F.one_hot(chosen, EXPERTS).permute(2, 1, 0)
    for expert in range(EXPERTS):
        place, rows = torch.where(mask[expert])
        if len(rows):
            y.index_add_(0, rows, self.one(expert, x[rows]) * share[rows, place, None])
    return y


class Block(nn.Module):
    """A norm that the router and the experts read; nothing is ever sent to the last expert."""

    def __init__(self, kind):
        super().__init__()
        self.attention, self.norm = nn.Linear(HIDDEN, HIDDEN), nn.RMSNorm(HIDDEN)
        self.router = nn.Linear(HIDDEN, EXPERTS)
        self.experts = type(kind.__name__, (kind,), {"forward": dispatch})()
        with torch.no_grad():
            self.router.bias[REACHED] = -1000
            self.norm.weight[3:5] *= 20

    def forward(self, x):
        x = x + self.attention(x)
        h = self.norm(x)
        share, chosen = self.router(h).softmax(-1).topk(2)
        return x + self.experts(h, chosen, share)


Model = partial(test_stacked_experts.Model, block=Block)


@pytest.fixture
def data():
    return mixed_tokens()


def recipe(weight, activation=None, method="smoothquant", then=(), **options):
    rules = [{"weight": weight, **({} if activation is None else {"input": activation})}]
    return {"rules": rules, "experts": {"unseen": "siblings"}, "algorithm": [{"method": method, **options}, *then]}


@torch.no_grad()
@pytest.mark.parametrize(
    "how",
    [recipe("int8_row", "int8_row"), recipe("int4_b32", size="rms", alpha=0.3), recipe("nvfp4", alpha=0.8),
     recipe("int4_b32", method="awq"), recipe("int8_row", "int8_row", method="awq", judge="inputs"),
     recipe("nvfp4", "mxfp8", method="awq", grid=5),
     recipe("int4_b32", method="awq", variant="full"), recipe("int4_b32", then=["awq"]),
     recipe("int4_b32", "int8_row", method="awq", then=["gptq"])],
    ids=["smooth", "smooth rms", "smooth nvfp4", "awq", "awq inputs", "awq nvfp4", "awq full", "both", "awq gptq"],
)  # fmt: skip
def test_weights_codes_and_scales_are_those_of_the_same_experts_as_a_list(how, data):
    listed, stacked = (mtcore.quantize(Model(kind), how, data) for kind in (Listed, Stacked))
    for one, other in zip(stacked.layers, listed.layers, strict=True):
        assert torch.equal(one.norm.weight, other.norm.weight)
        assert torch.equal(one.router.weight, other.router.weight)
    for (weight, coded), (wanted, expected) in zip(experts_of(stacked), experts_of(listed), strict=True):
        assert torch.equal(weight, wanted)
        assert same(coded, expected)
    for one, plain in zip(stacked.layers, Model(Stacked).layers, strict=True):
        changed = [one.experts.down_proj[e] != plain.experts.down_proj[e] for e in range(EXPERTS)]
        assert all(part.any() for part in changed), "every expert has scales of its own, without tokens too"


def idle(model):
    for module in model.modules():
        if hasattr(module, "disable"):
            module.disable()
    return model


@torch.no_grad()
@pytest.mark.parametrize("method", ["smoothquant", "awq"])
@pytest.mark.parametrize("kind", [Stacked, Transposed])
def test_outputs_stay_but_for_the_rounding_lose_less_and_undo_puts_all_back(kind, method, data):
    """Scales and their inverses round once each in every product: 2 · 2⁻²⁴ of it, over two blocks."""
    wanted = [Model(kind)(x) for x in data]

    def error(method):
        model = Model(kind)
        quantized = mtcore.quantize(model, recipe("int8_row", "int8", method), data)
        found = sum(float((quantized(x) - y).square().sum()) for x, y in zip(data, wanted, strict=True))
        torch.testing.assert_close(idle(quantized)(data[0]), wanted[0], rtol=1e-5, atol=1e-5)
        mtcore.undo(quantized)
        assert all(torch.equal(model(x), y) for x, y in zip(data, wanted, strict=True))
        return found

    assert error(method) < 0.9 * error("max")


@torch.no_grad()
@pytest.mark.parametrize("method", ["smoothquant", "awq"])
def test_static_scales_of_what_all_experts_read_are_those_of_the_folded_model(method, data):
    model = mtcore.quantize(Model(Stacked), recipe("int8_row", "int8", method), data)
    plain = Model(Stacked)
    for (name, parameter), folded in zip(plain.named_parameters(), model.parameters(), strict=True):
        assert parameter.shape == folded.shape, name
        parameter.copy_(folded)
    again = mtcore.quantize(plain, recipe("int8_row", "int8", "max"), data)
    for one, other in zip(model.layers, again.layers, strict=True):
        for name in ("gate_up_proj_input_quantizer", "down_proj_input_quantizer"):
            assert torch.equal(getattr(one.experts, name).amax, getattr(other.experts, name).amax)


@pytest.mark.parametrize("method", ["smoothquant", "awq"])
def test_an_expert_without_tokens_is_named_where_the_recipe_has_no_word_for_it(method, data):
    how = {"rules": [{"weight": "int4_b32"}], "algorithm": method}
    with pytest.raises(CalibrationError, match=rf"layers\.0\.experts\.gate_up_proj\.{REACHED}.*experts\.unseen"):
        mtcore.quantize(Model(Stacked), how, data)


class Unfolded(Block):
    """Something else reads the norm's output, so that no fold may change it."""

    def forward(self, x):
        return super().forward(x) + self.norm(x).sin()


def without_folds(kind):
    model = Model(kind)
    for layer in model.layers:
        layer.__class__ = Unfolded
    return model


@torch.no_grad()
@pytest.mark.parametrize("method", ["smoothquant", "awq"])
def test_what_no_fold_reaches_is_told_beforehand_and_stays_as_in_a_list(method, data):
    how = recipe("int4_b32", method=method)
    plan = mtcore.plan_model(without_folds(Stacked), how, inputs=data[0])
    (told,) = [finding.message for finding in plan.findings if "stacks of experts" in finding.message]
    assert told.startswith("2 of 4 stacks of experts stay unscaled (layers.0.experts.gate_up_proj: 4 of 4 experts")
    assert "gptq, or awq with variant: clip" in told
    listed, stacked = (experts_of(mtcore.quantize(without_folds(kind), how, data)) for kind in (Listed, Stacked))
    for (weight, coded), (wanted, expected) in zip(stacked, listed, strict=True):
        assert torch.equal(weight, wanted)
        assert same(coded, expected)
    fine = mtcore.plan_model(Model(Stacked), how, inputs=data[0])
    assert not any("stacks of experts" in finding.message for finding in fine.findings)
