"""Layers that a server joins are one decision; what each choice takes is exact; what cannot be had says why."""

import pytest
import torch
from torch import nn

from mtcore.opt import AS_IT_IS, Decision, find_decisions
from mtcore.plan import make_plan
from mtcore.trace import analyze
from tests.trace.test_routers import Listed, Stacked


@pytest.fixture
def decide(make_config, specs):
    """decide(model, inputs, nvfp4={...rules}): decisions between plans by name."""

    def made(model, inputs, **choices):
        trace = analyze(model, inputs)
        plans = {name: make_plan(model, make_config(rules), specs, trace) for name, rules in choices.items()}
        return find_decisions(model, plans, specs, trace)

    return made


FP8, INT8 = {"*weight_quantizer": "fp8"}, {"*weight_quantizer": "int8"}
TOKENS = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))


def test_modules_that_read_one_value_agree_and_the_others_are_free(decide, model, batch):
    found = decide(model, batch, fp8=FP8, int8=INT8)
    assert [decision.modules for decision in found] == [
        ("0.gate", "0.up"),
        ("0.down",),
        ("1.gate", "1.up"),
        ("1.down",),
        ("2",),
    ]
    assert [decision.name for decision in found][:2] == ["0.{gate,up}", "0.down"]


def test_every_choice_is_counted_with_its_scales_and_the_layer_as_it_is_with_its_own_bits(decide, model, batch):
    model.bfloat16()
    down = decide(model, batch.bfloat16(), fp8=FP8, nvfp4={"*weight_quantizer": "nvfp4"})[1]
    assert down.weights == 32 * 48
    assert down.bits == {
        AS_IT_IS: 32 * 48 * 16,
        "fp8": 32 * 48 * 8 + 32,  # one fp32 scale
        "nvfp4": 32 * 48 * 4 + 32 * 3 * 8 + 32,  # a scale of 8 bits for 16 values, and one of 32
    }
    assert next(iter(down.bits)) == AS_IT_IS


def test_all_experts_of_a_router_are_one_decision(decide):
    chooser, experts = decide(Listed(), TOKENS, fp8=FP8, int8=INT8)
    assert chooser.modules == ("chooser",)
    assert experts.modules == tuple(f"parts.{i}.{layer}" for i in range(4) for layer in ("wide", "narrow"))
    assert experts.name == "parts.[0-3].{wide,narrow}"


def test_stacked_experts_are_one_decision_and_each_matrix_has_its_own_scales(decide):
    _, experts = decide(Stacked(), TOKENS, fp8=FP8, int8=INT8)
    assert experts.modules == ("parts",)
    assert experts.weights == 4 * 6 * 8 * 2
    assert experts.bits["fp8"] == 4 * 2 * (6 * 8 * 8 + 32)  # a scale for each of 4 x 2 matrices


def test_tied_weights_are_no_decision(decide):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.up, self.head = nn.Embedding(8, 16), nn.Linear(16, 16), nn.Linear(16, 8, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids):
            return self.head(self.up(self.embed(ids)))

    found = decide(Tied(), torch.arange(4)[None], fp8=FP8)
    assert [decision.modules for decision in found] == [("up",)]


def test_a_choice_that_leaves_part_of_a_group_out_is_refused_with_the_reason(decide, model, batch):
    rules = {**FP8, "0.up*": None}
    first, *others = decide(model, batch, fp8=rules, int8=INT8)
    assert set(first.bits) == {AS_IT_IS, "int8"}
    assert first.refused == {"fp8": "0.up: left as it is by rule #2"}
    assert all("fp8" in decision.bits for decision in others)


def test_a_choice_whose_blocks_do_not_fit_is_refused_where_they_do_not(decide):
    model = nn.Sequential(nn.Linear(32, 24), nn.Linear(24, 8))
    narrow = decide(model, torch.randn(2, 32), nvfp4={"*weight_quantizer": "nvfp4"}, fp8=FP8)[1]
    assert set(narrow.bits) == {AS_IT_IS, "fp8"}
    assert "24 input features are not a multiple of block 16" in narrow.refused["nvfp4"]


def test_a_module_that_reads_its_child_decides_with_it(decide):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    (decision,) = decide(Around().eval(), torch.randn(1, 4, 16), fp8=FP8)
    assert decision.modules == ("attention", "attention.out_proj")
    assert decision.sites == ("attention",)


def test_a_name_that_would_not_say_which_modules_gives_the_first_and_their_number():
    bits = {AS_IT_IS: 1}
    assert Decision(("a.0.x", "a.2.x", "a.3.x"), 1, bits).name == "a.[0,2-3].x"
    assert Decision(("a.0.b.1.x", "a.1.b.0.x"), 1, bits).name == "a.0.b.1.x and 1 more"
