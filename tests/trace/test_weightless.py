"""Tracing without values: the groups are those of the real forward, and whole numbers stay real."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtcore.trace import analyze, empty_weights
from mtcore.trace.weightless import run_weightless, weights_put_aside
from tests.trace.test_repeats import Block, Routed, Stack

aten = torch.ops.aten


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


class Language(nn.Module):
    """Tokens, positions, a causal mask and a gather of the last token: all that needs whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, 8), nn.Embedding(16, 8)
        self.register_buffer("positions", torch.arange(16), persistent=False)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.block = Block(8)
        self.head = nn.Linear(8, 50, bias=False)

    def forward(self, ids):
        x = self.tokens(ids) + self.places(self.positions[: ids.shape[1]])
        q, k, v = self.qkv(x).chunk(3, -1)
        later = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=x.device).triu(1)
        x = x + self.out((q @ k.mT).masked_fill(later, -1e9).softmax(-1) @ v)
        last = torch.arange(ids.shape[0], device=x.device)
        return self.head(self.block(x)[last, (ids != 0).sum(-1) - 1])


IDS = torch.tensor([[3, 4, 5, 0], [7, 8, 9, 10]])


def test_the_groups_are_those_of_the_real_forward():
    model = Language()
    real, light = analyze(model, IDS), analyze(model, IDS, weightless=True)
    assert light.folds == real.folds != ()
    assert (light.symbols, light.blocks, light.shared_inputs) == (real.symbols, real.blocks, real.shared_inputs)
    assert not light.failures


def test_a_model_built_without_weights_has_the_groups_of_the_real_one():
    with empty_weights():
        light = Language()
    assert {p.device.type for p in light.parameters()} == {"meta"}
    assert light.positions.tolist() == list(range(16))
    assert analyze(light, IDS).folds == analyze(Language(), IDS).folds


def test_parameters_are_put_back_also_after_an_error():
    model = Stack(Block(), Block())
    before = dict(model.named_parameters())

    def fail() -> None:
        with weights_put_aside(model, wanted=True):
            assert {p.device.type for p in model.parameters()} == {"meta"}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


def test_tied_parameters_stay_tied():
    model = Language()
    model.head.weight = model.tokens.weight
    with weights_put_aside(model, wanted=True):
        assert model.head.weight is model.tokens.weight
    assert analyze(model, IDS, weightless=True).folds == analyze(model, IDS).folds


def test_experts_chosen_by_made_up_numbers_are_in_range():
    torch.manual_seed(0)
    model = Stack(nn.Sequential(Routed(), nn.ReLU()))
    report = analyze(model, torch.randn(16, 4), weightless=True)
    assert not report.failures


def test_the_best_k_are_counted_upwards_row_by_row():
    values, indices = run_weightless(aten.topk.default, (meta(3, 4), 2), {})
    assert values.device.type == "meta"
    assert indices.tolist() == [[0, 1], [2, 3], [0, 1]]


def test_the_best_k_along_another_axis():
    _, indices = run_weightless(aten.topk.default, (meta(4, 3), 2, 0), {})
    assert indices.T.tolist() == [[0, 1], [2, 3], [0, 1]]


def test_whole_numbers_are_computed():
    ids = torch.tensor([1, 2])
    assert run_weightless(aten.add.Tensor, (ids, 1), {}).tolist() == [2, 3]
    assert run_weightless(aten.arange.default, (3,), {"device": torch.device("meta")}).tolist() == [0, 1, 2]
    moved = run_weightless(aten._to_copy.default, (ids,), {"device": torch.device("meta")})
    assert moved.tolist() == [1, 2]


def test_a_mask_selects_real_rows():
    mask = torch.tensor([True, False, True])
    out = run_weightless(aten.index.Tensor, (meta(3, 5), [mask]), {})
    assert (out.device.type, tuple(out.shape)) == ("meta", (2, 5))


def test_a_write_of_shapes_into_values_leaves_the_values():
    held = torch.zeros(3)
    assert run_weightless(aten.add_.Tensor, (held, meta(3)), {}) is held
    assert held.tolist() == [0, 0, 0]


def test_comparisons_of_shapes_are_false():
    assert run_weightless(aten.gt.Scalar, (meta(2), 0), {}).tolist() == [False, False]


class Reading(nn.Module):
    """Its control flow depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        x = self.layer(x)
        return x if x.sum().item() > 0 else -x


def test_control_flow_on_a_value_is_a_failure_that_says_so():
    report = analyze(Reading(), torch.ones(1, 4), weightless=True)
    assert "meta" in report.failures[0].message
    assert report.folds == ()
