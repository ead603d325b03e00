"""A quantized linear layer with a low-rank branch beside its weight."""

import pytest
import torch
from torch import nn

from mtcore.nn import ChannelScale, LowRankLinear, QuantLinear, TensorQuantizer, branch_dtype


@pytest.fixture
def layer(formats):
    def make(inputs=None, rank=4):
        torch.manual_seed(0)
        quantizers = {
            "input": inputs or nn.Identity(),
            "weight": TensorQuantizer(formats["int4_b32"], "static", channel_axis=0),
            "output": nn.Identity(),
        }
        made = LowRankLinear.from_original(nn.Linear(64, 48), quantizers)
        made.add_branch(rank)
        return made

    return make


def fill(layer):
    with torch.no_grad():
        layer.lora_a.normal_()
        layer.lora_b.normal_()


def test_a_fresh_branch_adds_nothing(layer):
    made, x = layer(), torch.randn(5, 64)
    assert made.lora_a.shape == (4, 64)
    assert made.lora_b.shape == (48, 4)
    assert torch.equal(made(x), QuantLinear.forward(made, x))


def test_the_branch_reads_the_input_before_it_is_rounded(layer, formats):
    made, x = layer(TensorQuantizer(formats["int8_row"], "dynamic")), torch.randn(5, 64)
    fill(made)
    assert torch.equal(made(x), QuantLinear.forward(made, x) + x @ made.lora_a.T @ made.lora_b.T)


@pytest.mark.parametrize("rounds", [True, False])
def test_the_branch_reads_the_input_as_it_is_scaled(layer, formats, rounds):
    slot, scale = (
        TensorQuantizer(formats["int8_row"], "dynamic") if rounds else ChannelScale(),
        torch.rand(64) + 0.5,
    )
    slot.set_pre_quant_scale(scale)
    made, x = layer(slot), torch.randn(5, 64)
    fill(made)
    branch = (x * scale) @ made.lora_a.T @ made.lora_b.T
    assert torch.equal(made(x), QuantLinear.forward(made, x) + branch)


def test_a_branch_is_never_idle(layer):
    made = layer()
    made.weight_quantizer.disable()
    assert not made.idle


@pytest.mark.parametrize(
    ("weight", "branch"),
    [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float16)],
)
def test_a_branch_has_16_bits(weight, branch):
    assert branch_dtype(weight) == branch
