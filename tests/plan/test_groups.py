"""Layers that read one value share the scale of their input; of their weights only siblings in one module."""

import pytest
import torch
from torch import nn

from mtcore.errors import PlanError
from mtcore.plan import make_plan, part_of
from mtcore.plan.groups import siblings
from mtcore.trace import analyze

W, X = "*weight_quantizer", "*input_quantizer"


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x, memory):
        return x + self.k(memory).sigmoid() * self.v(memory)


class Decoder(nn.Module):
    """Its layers all read what the encoder made."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.layers = nn.Linear(8, 8), nn.ModuleList(Reader() for _ in range(3))

    def forward(self, x):
        memory = self.encoder(x)
        for layer in self.layers:
            x = layer(x, memory)
        return x


@pytest.fixture
def plan(specs, make_config):
    torch.manual_seed(0)
    model = Decoder()
    return make_plan(model, make_config({W: "fp8", X: "fp8"}), specs, analyze(model, torch.randn(4, 8)))


def test_layers_of_a_list_share_the_scale_of_one_input_and_no_weight_scale(plan):
    groups = [(group.slot, group.modules) for group in plan.groups]
    pairs = [(f"layers.{i}.k", f"layers.{i}.v") for i in range(3)]
    assert groups == [*(("weight", pair) for pair in pairs), ("input", sum(pairs, ()))]
    assert plan["layers.1.v"].slot("weight").group == "layers.1.k.weight"
    assert plan["layers.1.v"].slot("input").group == "layers.0.k.input"


def test_a_shared_input_is_cut_between_the_parts_of_a_plan(plan):
    part = part_of(plan, lambda name: name.startswith("layers.1."))
    assert [(group.slot, group.modules) for group in part.groups] == [
        ("weight", ("layers.1.k", "layers.1.v")),
        ("input", ("layers.1.k", "layers.1.v")),
    ]


def test_a_shared_weight_scale_is_not_cut(plan):
    with pytest.raises(PlanError, match=r"layers\.1\.k, layers\.1\.v share their weight scales"):
        part_of(plan, lambda name: name == "layers.1.k")


@pytest.mark.parametrize(
    ("names", "lists", "expected"),
    [
        (["h.0.attn.q", "h.0.attn.k", "h.0.mlp.up"], {"h"}, [["h.0.attn.q", "h.0.attn.k"]]),  # a parallel block
        (["attn.q.base", "attn.k.base"], (), [["attn.q.base", "attn.k.base"]]),  # each in a wrapper
        (["h.0.kv", "h.1.kv"], {"h"}, []),
        (["0", "1"], (), [["0", "1"]]),
        (["0", "1"], {""}, []),
    ],
)
def test_siblings_are_in_one_module_however_deep(names, lists, expected):
    assert list(siblings(names, lists)) == expected
