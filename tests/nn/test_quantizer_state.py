"""Statistics survive state dicts, meta devices, moves and casts."""

import pytest
import torch

from mtcore.nn import TensorQuantizer


@pytest.fixture
def calibrated(formats):
    quantizer = TensorQuantizer(formats["nvfp4"], "dynamic_blocks")
    quantizer.set_amax(None, torch.tensor(3.1))
    quantizer.set_pre_quant_scale(torch.rand(16, generator=torch.Generator().manual_seed(0)))
    quantizer.set_bias(torch.tensor([0.1]))
    return quantizer


def test_calibrated_state_loads_into_a_fresh_quantizer(formats, calibrated):
    new = TensorQuantizer(formats["nvfp4"], "dynamic_blocks")
    new.load_state_dict(calibrated.state_dict())
    x = torch.randn(2, 16)
    assert torch.equal(new(x), calibrated(x))


def test_only_what_was_calibrated_is_in_the_state(formats, calibrated):
    assert set(calibrated.state_dict()) == {"outer_amax", "pre_quant_scale", "bias"}
    assert TensorQuantizer(formats["fp8"], "dynamic").state_dict() == {}


def test_state_loads_into_a_module_that_was_built_on_meta(formats, calibrated):
    with torch.device("meta"):
        new = TensorQuantizer(formats["nvfp4"], "dynamic_blocks")
    new.load_state_dict(calibrated.state_dict(), assign=True)
    x = torch.randn(2, 16)
    assert torch.equal(new(x), calibrated(x))


def test_a_statistic_that_the_state_lacks_is_an_error(formats, calibrated):
    fresh = TensorQuantizer(formats["nvfp4"], "dynamic_blocks")
    with pytest.raises(RuntimeError, match="outer_amax"):
        calibrated.load_state_dict(fresh.state_dict())


@pytest.mark.parametrize("learned", [False, True])
def test_statistics_stay_in_fp32_when_the_model_is_cast(formats, learned):
    quantizer = TensorQuantizer(formats["fp8"], "static")
    quantizer.set_amax(torch.tensor([[1.2345678]]), None)
    if learned:
        quantizer.learn_amax()
    torch.nn.Sequential(quantizer).to(torch.bfloat16)
    assert quantizer.amax.dtype == torch.float32
    assert quantizer.amax.item() == torch.tensor(1.2345678).item()


def test_calibrating_again_ends_learning(formats):
    quantizer = TensorQuantizer(formats["fp8"], "static")
    quantizer.set_amax(torch.tensor([[1.0]]), None)
    quantizer.learn_amax()
    assert list(dict(quantizer.named_parameters())) == ["amax"]
    quantizer.set_amax(torch.tensor([[2.0]]), None)
    assert list(quantizer.parameters()) == []
    assert quantizer.state_dict()["amax"].item() == 2.0
