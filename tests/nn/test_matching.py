"""A record matches its exact type and subclasses that kept the forward; anything else says why not."""

import torch
from torch import nn

from mtcore.nn import QuantLinear, builtin_quant_modules, match_spec, type_key
from mtcore.nn.low_rank_linear import LINEAR

SPECS = list(builtin_quant_modules())


class Renamed(nn.Linear):
    pass


class Doubled(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


def test_exact_type_and_subclass_with_the_same_forward_match():
    assert match_spec(nn.Linear(2, 2), SPECS).spec is LINEAR
    assert match_spec(Renamed(2, 2), SPECS).spec is LINEAR


def test_an_overridden_forward_is_not_matched_and_says_so():
    match = match_spec(Doubled(2, 2), SPECS)
    assert match.spec is None
    assert match.reason == "Doubled overrides the forward of nn.Linear"


def test_a_forward_replaced_on_the_instance_is_not_matched():
    layer = nn.Linear(2, 2)
    layer.forward = lambda x: x
    assert "replaced on the instance" in match_spec(layer, SPECS).reason


def test_a_layer_without_a_record_says_so():
    assert match_spec(nn.PReLU(), SPECS).reason == "no quantized form of nn.PReLU is registered"


def test_a_quantized_layer_is_not_matched_again():
    twin = QuantLinear.from_original(nn.Linear(2, 2), {})
    assert "quantized already" in match_spec(twin, SPECS).reason


def test_torch_layers_are_named_with_their_package():
    assert type_key(nn.Linear(1, 1)) == "nn.Linear"
    assert type_key(Renamed(1, 1)) == "Renamed"
    assert type_key(torch.nn.LSTM(1, 1)) == "nn.LSTM"
