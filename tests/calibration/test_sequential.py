"""Blocks are walked with no more forwards than it takes, and what lies on no path is not cut."""

from collections import Counter

import pytest
import torch
from torch import nn

import mtcore
from mtcore.calibration.products import AllSeen, seen_inputs, shared_inputs
from mtcore.nn import QuantLinear

WEIGHTS = {"rules": [{"weight": "int4_b32"}]}


class Block(nn.Module):
    """Two layers in a row; the first runs twice where `twice`."""

    def __init__(self, twice=False):
        super().__init__()
        self.first, self.second, self.after = nn.Linear(32, 32), nn.Linear(32, 32), Counting()
        self.twice = twice

    def forward(self, x):
        hidden = self.first(x).relu()
        if self.twice:
            hidden = self.first(hidden).relu()
        return x + self.after(self.second(hidden))


class Counting(nn.Module):
    calls = 0

    def forward(self, x):
        Counting.calls += 1
        return x


def make(twice=False):
    torch.manual_seed(0)
    return Blocks(twice)


class Blocks(nn.Module):
    def __init__(self, twice):
        super().__init__()
        self.layers = nn.ModuleList(Block(twice) for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.fixture
def data():
    return [torch.randn(64, 32, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]


def test_nothing_after_the_layer_in_question_is_computed(data):
    counted = {}
    for algorithm in ("max", "gptq"):  # the first runs no data for weights: its forwards are those of the plan
        Counting.calls = 0
        mtcore.quantize(make(), {**WEIGHTS, "algorithm": algorithm}, data)
        counted[algorithm] = Counting.calls
    batches, blocks = len(data), 2
    # The recording, one look at who reads what, and what the second block gets, in both models.
    assert counted["gptq"] - counted["max"] == blocks * batches + blocks + 2 * batches


def test_a_layer_that_runs_twice_is_seen_to_its_last_call(data):
    quantized = mtcore.quantize(make(twice=True), {**WEIGHTS, "algorithm": "gptq"}, data)
    plain = mtcore.quantize(make(twice=True), {**WEIGHTS, "algorithm": "max"}, data)
    exact = make(twice=True)

    def error(model):
        return sum(float((model(x) - exact(x)).square().sum()) for x in data)

    with torch.no_grad():
        assert error(quantized) < error(plain)


def test_weights_that_are_rounded_round_again_when_the_walk_is_over(data):
    model = mtcore.quantize(make(), {**WEIGHTS, "algorithm": "gptq"}, data)
    layers = [module for module in model.modules() if isinstance(module, QuantLinear)]
    assert len(layers) == 4
    for layer in layers:
        assert layer.weight_quantizer.enabled


def test_calls_are_counted_where_readers_are_found(data):
    model = mtcore.quantize(make(twice=True), {**WEIGHTS, "algorithm": "max"}, data)
    block = model.layers[0]
    times = Counter()
    first, second = ("first", "weight"), ("second", "weight")
    found = shared_inputs({first: block.first, second: block.second}, lambda: block(data[0]), times)
    assert found == [(first,), (second,)]
    assert times == {first: 2, second: 1}


def test_a_forward_ends_when_all_factors_have_come(data):
    model = mtcore.quantize(make(), {**WEIGHTS, "algorithm": "max"}, data)
    block = model.layers[0]
    with seen_inputs({("first", "weight"): block.first}, stop=True) as seen, pytest.raises(AllSeen):
        block(data[0])
    assert torch.equal(seen["first", "weight"], data[0])
    block(data[0])  # no hook is left
