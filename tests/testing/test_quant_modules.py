"""A good layer keeps the contract of quantized modules, and the contract finds what is wrong in bad ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtcore.nn import QuantLinear, QuantModule, QuantModuleSpec
from mtcore.nn.low_rank_linear import LINEAR
from mtcore.testing import QuantModuleContract


class TestLinear(QuantModuleContract):
    """The other built-in layers are held to it in tests/nn/test_layers.py."""

    @pytest.fixture
    def spec(self):
        return LINEAR

    @pytest.fixture
    def module(self):
        torch.manual_seed(0)
        return nn.Linear(24, 16)

    @pytest.fixture
    def inputs(self):
        torch.manual_seed(1)
        return torch.randn(5, 24)


class NotAskingWeight(QuantLinear):
    def forward(self, input):
        return self.output_quantizer(F.linear(self.input_quantizer(input), self.weight, self.bias))


class DroppingInput(QuantLinear):
    def forward(self, input):
        self.input_quantizer(input)
        return self.output_quantizer(F.linear(input, self.weight_quantizer(self.weight), self.bias))


class Wrong(QuantLinear):
    def forward(self, input):
        return super().forward(input) * 1.001


class Transposing(QuantLinear):
    def forward(self, input):
        weight = self.weight_quantizer(self.weight.T)
        return self.output_quantizer(F.linear(self.input_quantizer(input), weight.T, self.bias))


class Detached(QuantLinear):
    def forward(self, input):
        weight = self.weight_quantizer(self.weight.detach())
        return self.output_quantizer(F.linear(self.input_quantizer(input), weight, self.bias))


class Alone(QuantModule): ...


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(8, 4)


@pytest.fixture
def x():
    return torch.randn(3, 8, generator=torch.Generator().manual_seed(1))


def spec_of(quantized, **fields):
    return QuantModuleSpec("nn.Linear", nn.Linear, quantized, **fields)


@pytest.mark.parametrize(
    ("quantized", "test", "complaint"),
    [
        (NotAskingWeight, "test_every_quantizer_sees_its_tensor", "never calls the quantizer of slot 'weight'"),
        (Transposing, "test_every_quantizer_sees_its_tensor", r"quantizer of 'weight' sees: shape \(8, 4\)"),
        (DroppingInput, "test_what_every_quantizer_returns_is_used", "ignores the quantizer of slot 'input'"),
        (Wrong, "test_with_nothing_quantized_the_output_is_the_originals", r"first differing element \[0, 0\]"),
        (
            Wrong,
            "test_a_quantized_weight_gives_what_the_original_gives_with_that_weight",
            "first differing element",
        ),
        (Detached, "test_gradients_reach_the_shared_weights", "no gradient reaches 'weight'"),
    ],
)
def test_a_layer_that_breaks_the_contract_is_found(layer, x, quantized, test, complaint):
    with pytest.raises(AssertionError, match=complaint):
        getattr(QuantModuleContract(), test)(spec_of(quantized), layer, x)


def test_a_class_that_is_not_the_original_is_found():
    with pytest.raises(AssertionError, match=r"is no <class 'torch\.nn"):
        QuantModuleContract().test_the_quantized_class_is_both_a_quant_module_and_the_original(spec_of(Alone))


def test_slots_that_do_not_exist_are_found(layer):
    with pytest.raises(AssertionError, match="activations are among"):
        QuantModuleContract().test_the_slots_are_what_the_record_says(
            spec_of(QuantLinear, activations=("in",)), layer
        )
