"""Recurrent layers: the unrolled recurrence is torch's, and every product takes what was quantized."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mtcore.nn import QuantModule, TensorQuantizer, builtin_quant_modules

SPECS = {spec.name: spec for spec in builtin_quant_modules()}
KINDS = [nn.LSTM, nn.GRU, nn.RNN]
OPTIONS = [
    {"num_layers": layers, "bidirectional": both, "batch_first": first, "proj_size": proj}
    for layers, both, first, proj in itertools.product((1, 2), (False, True), (False, True), (0, 3))
]


def layer_of(kind, **options):
    torch.manual_seed(0)
    proj = options.pop("proj_size", 0)
    return kind(8, 6, **options, **({"proj_size": proj} if proj and kind is nn.LSTM else {}))


def twin_of(layer, **quantizers) -> QuantModule:
    spec = SPECS[f"nn.{type(layer).__name__}"]
    slots = [*(name for name in layer._parameters if name.startswith("weight")), *spec.activations]
    return spec.quantized.from_original(layer, {slot: nn.Identity() for slot in slots} | quantizers)


def same(one, other):
    """Sums of at most 8 products of tanh-bounded numbers over 5 steps: 1e-5 is a hundred fp32 roundings."""
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one.shape == other.shape and torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given_state", [False, True])
def test_the_unrolled_recurrence_is_that_of_torch(kind, options, given_state):
    layer = layer_of(kind, **options)
    x = torch.randn(3, 5, 8) if options["batch_first"] else torch.randn(5, 3, 8)
    state = layer(x)[1] if given_state else None
    assert same(twin_of(layer).unrolled(x, state), layer(x, state))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unbatched_sequence_is_accepted(kind):
    layer = layer_of(kind, num_layers=2, bidirectional=True)
    x = torch.randn(5, 8)
    assert same(twin_of(layer).unrolled(x), layer(x))
    state = layer(x)[1]
    assert same(twin_of(layer).unrolled(x, state), layer(x, state))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given_state", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
def test_packed_sequences_are_unrolled_as_torch_does(kind, given_state, ordered):
    layer = layer_of(kind, num_layers=2, bidirectional=True)
    lengths = torch.tensor([5, 3, 2] if ordered else [3, 5, 2])
    packed = pack_padded_sequence(torch.randn(5, 3, 8), lengths, enforce_sorted=ordered)
    state = layer(torch.randn(4, 3, 8))[1] if given_state else None
    output, last = twin_of(layer).unrolled(packed, state)
    expected, expected_last = layer(packed, state)
    assert same(pad_packed_sequence(output)[0], pad_packed_sequence(expected)[0])
    assert same(last, expected_last)


class Doubled(nn.Module):
    """Stands for a quantizer whose effect is easy to write down."""

    def forward(self, x):
        return 2 * x


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantized_state_counts_in_the_product_only(kind):
    """Doubling the state before the product is the same as doubling the matrix that it is multiplied with."""
    layer, doubled = layer_of(kind), layer_of(kind)
    doubled.weight_hh_l0.data *= 2
    x = torch.randn(5, 3, 8)
    assert same(twin_of(layer, hidden_input=Doubled())(x), doubled(x))


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_of_every_layer_is_quantized(kind):
    layer, doubled = layer_of(kind, num_layers=2), layer_of(kind, num_layers=2)
    doubled.weight_ih_l0.data *= 2
    doubled.weight_ih_l1.data *= 2
    x = torch.randn(5, 3, 8)
    assert same(twin_of(layer, input=Doubled())(x), doubled(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_sequence_can_be_quantized_in_the_fused_kernel(kind, formats):
    layer = layer_of(kind)
    quantizer = TensorQuantizer(formats["fp8_row"], "dynamic")
    packed = pack_padded_sequence(torch.randn(5, 3, 8), torch.tensor([5, 3, 2]))
    output, _ = twin_of(layer, input=quantizer)(packed)
    expected, _ = layer(packed._replace(data=quantizer(packed.data)))
    assert torch.equal(output.data, expected.data)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight_through_the_unrolled_recurrence(kind, formats):
    layer = layer_of(kind, num_layers=2)
    quantizers = {
        name: TensorQuantizer(formats["int8_row"], "static", channel_axis=0)
        for name in layer._parameters
        if name.startswith("weight")
    }
    twin = twin_of(layer, hidden_input=TensorQuantizer(formats["fp8"], "dynamic"), **quantizers)
    twin(torch.randn(5, 3, 8))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_dropout_between_layers_falls_in_training_only():
    layer = layer_of(nn.GRU, num_layers=2, dropout=0.5)
    twin = twin_of(layer)
    x = torch.randn(5, 3, 8)
    assert not torch.equal(twin.unrolled(x)[0], twin.unrolled(x)[0])
    twin.eval()
    assert same(twin.unrolled(x), layer.eval()(x))


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_a_cell_with_a_quantized_state_doubles_as_its_matrix_would(name):
    torch.manual_seed(0)
    cell, doubled = getattr(nn, name)(8, 6), getattr(nn, name)(8, 6)
    doubled.load_state_dict(cell.state_dict())
    doubled.weight_hh.data *= 2
    x, h = torch.randn(3, 8), torch.randn(3, 6)
    state = (h, torch.randn(3, 6)) if name == "LSTMCell" else h
    spec = SPECS[f"nn.{name}"]
    slots = {slot: nn.Identity() for slot in ("weight_ih", "weight_hh", *spec.activations)}
    twin = spec.quantized.from_original(cell, slots | {"hidden_input": Doubled()})
    assert same(twin(x, state), doubled(x, state))
    assert same(twin(x), doubled(x))
