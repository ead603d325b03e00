"""A scale on an input that is not rounded."""

import torch

from mtcore.nn import ChannelScale


def test_without_a_scale_it_gives_the_very_input_back():
    x, scale = torch.randn(3, 8), ChannelScale()
    assert scale.idle
    assert scale(x) is x


def test_columns_are_multiplied_in_fp32_and_keep_their_dtype():
    x, scale = torch.randn(2, 3, 8).bfloat16(), ChannelScale()
    scale.set_pre_quant_scale(torch.linspace(0.1, 3, 8))
    assert not scale.idle
    assert torch.equal(scale(x), (x.float() * torch.linspace(0.1, 3, 8)).bfloat16())


def test_the_scale_keeps_fp32_when_the_model_is_cast_and_is_loaded_into_a_fresh_one():
    scale, fresh = ChannelScale(), ChannelScale()
    scale.set_pre_quant_scale(torch.rand(8))
    assert scale.bfloat16().pre_quant_scale.dtype == torch.float32
    fresh.load_state_dict(scale.state_dict())
    assert torch.equal(fresh.pre_quant_scale, scale.pre_quant_scale)
