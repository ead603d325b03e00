"""What flows back through rounding, and that training works."""

import math

import pytest
import torch
from torch import nn

from mtcore.errors import CalibrationError, FormatError
from mtcore.nn import QuantLinear, TensorQuantizer
from mtcore.numerics import block_amax, qparams_from_amax, round_to_element


def test_a_clipped_gradient_stops_at_the_range(formats):
    quantizer = TensorQuantizer(formats["int8"], "static", gradient="clipped")
    quantizer.set_amax(torch.tensor([[1.0]]), None)
    x = torch.tensor([[-2.0, -1.0, 0.3, 1.0, 1.5]], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad.tolist() == [[0, 1, 1, 1, 0]]


def surrogate(x, amax, fmt, frozen):
    """LSQ written out: rounding and clipping where `frozen` (the rounding error at this point) is a constant."""
    step = amax / fmt.target
    units = (x / step).clamp(fmt.element.min, fmt.element.max)
    return (units + frozen) * step


@pytest.mark.parametrize("name", ["int8", "fp8", "fp8_e5m2", "int4_b32", "fp8_row"])
def test_the_gradient_of_a_learned_amax_is_the_slope_of_the_surrogate(formats, name):
    """Central differences of f(amax) with the rounding error held fixed, the definition of LSQ's gradient."""
    fmt = formats[name]
    torch.manual_seed(0)
    x, weights = torch.randn(4, 64), torch.randn(4, 64)
    quantizer = TensorQuantizer(fmt, "static", channel_axis=0)
    quantizer.set_amax(block_amax(x, fmt.block) * 0.6, None)  # so that some elements are cut off
    amax = quantizer.learn_amax()
    (quantizer(x) * weights).sum().backward()

    high, wide = fmt.block.extents(*x.shape)
    spread = amax.detach().double().repeat_interleave(high, 0).repeat_interleave(wide, 1)
    units = (x.double() / (spread / fmt.target)).clamp(fmt.element.min, fmt.element.max)
    frozen = round_to_element(units.float(), fmt.element).double() - units
    eps = 1e-6
    up = surrogate(x.double(), spread * (1 + eps), fmt, frozen)
    down = surrogate(x.double(), spread * (1 - eps), fmt, frozen)
    slope = (up - down) / (2 * eps * spread) * weights
    expected = slope.reshape(x.shape[0] // high, high, x.shape[1] // wide, wide).sum(dim=(1, 3))
    expected = expected / math.sqrt(high * wide * fmt.target)
    # fp32 against fp64: 1e-4 of the summed magnitudes covers a code that falls on the other side of a tie.
    assert torch.allclose(amax.grad.double(), expected, rtol=1e-3, atol=1e-3 * slope.abs().sum().item() / x.numel())


def test_a_cut_off_element_moves_with_amax_exactly(formats):
    """Outside the range the output is amax or -amax · 128 / 127, so its true derivative is 1 or -128 / 127."""
    quantizer = TensorQuantizer(formats["int8"], "static")
    quantizer.set_amax(torch.tensor([[1.0]]), None)
    amax = quantizer.learn_amax()
    quantizer(torch.tensor([[3.0, 5.0, -4.0]])).sum().backward()
    assert amax.grad.item() == pytest.approx((2 - 128 / 127) / math.sqrt(3 * 127))


def test_an_amax_that_is_learned_from_a_weight_starts_at_its_blocks(formats):
    w = torch.randn(4, 64)
    quantizer = TensorQuantizer(formats["int4_b32"], "static", channel_axis=0)
    before = quantizer(w)
    assert torch.equal(quantizer.learn_amax(w), block_amax(w, formats["int4_b32"].block))
    assert torch.equal(quantizer(w), before)


def test_learning_needs_something_to_start_from_and_a_symmetric_format(formats):
    with pytest.raises(CalibrationError, match="calibrate first"):
        TensorQuantizer(formats["fp8"], "static").learn_amax()
    with pytest.raises(FormatError, match="follow a range"):
        TensorQuantizer(formats["int4_b32_asym"], "static", channel_axis=0).learn_amax(torch.ones(1, 32))


def twin(layer: nn.Linear, fmt, act) -> QuantLinear:
    quantizers = {
        "weight": TensorQuantizer(fmt, "static", channel_axis=0),
        "input": TensorQuantizer(act, "dynamic"),
        "output": nn.Identity(),
    }
    return QuantLinear.from_original(layer, quantizers)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("name", ["int4_b32", "nvfp4", "mxfp4", "int3_b32"])
def test_a_plain_training_loop_lowers_the_loss_of_a_quantized_model(formats, name, learned):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    student = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    model = nn.Sequential(
        twin(student[0], formats[name], formats["fp8"]), nn.Tanh(), twin(student[2], formats[name], formats["fp8"])
    )
    if learned:
        for layer in (model[0], model[2]):
            layer.weight_quantizer.learn_amax(layer.weight)
    x = torch.randn(256, 32)
    target = teacher(x).detach()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = (model(x) - target).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_the_scales_of_a_learned_amax_are_those_of_the_reference(formats):
    quantizer = TensorQuantizer(formats["fp8"], "static")
    quantizer.set_amax(torch.tensor([[2.0]]), None)
    quantizer.learn_amax()
    expected = qparams_from_amax(torch.tensor([[2.0]]), formats["fp8"])
    assert torch.equal(quantizer.calibrated_qparams().scale, expected.scale)
