"""The quantizer of one tensor: what it computes, what it refuses, what it keeps."""

import copy

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mtcore.errors import CalibrationError
from mtcore.formats import builtin_formats
from mtcore.nn import Rotation, TensorQuantizer, TokenView
from mtcore.numerics import (
    dequantize,
    dynamic_qparams,
    fake_quantize,
    qparams_from_range,
    token_matrix,
    weight_matrix,
)

FORMATS = list(builtin_formats())


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_a_dynamic_quantizer_is_the_reference_on_the_token_matrix(fmt):
    x = torch.randn(2, 3, 32)
    fake = TensorQuantizer(fmt, "dynamic")(x)
    expected = fake_quantize(token_matrix(x), dynamic_qparams(token_matrix(x), fmt)).view_as(x)
    assert torch.equal(fake, expected)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_weight_quantizer_sees_channels_as_rows_and_gives_the_shape_back(fmt, axis):
    w = torch.randn(4, 8, 3, 2)
    fake = TensorQuantizer(fmt, "static", channel_axis=axis)(w)
    matrix = weight_matrix(w, axis)
    expected = fake_quantize(matrix, dynamic_qparams(matrix, fmt))
    assert fake.shape == w.shape
    assert torch.equal(weight_matrix(fake, axis), expected)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_quantize_and_forward_agree_bit_for_bit(fmt):
    w = torch.randn(8, 32).bfloat16()
    quantizer = TensorQuantizer(fmt, "static", channel_axis=0)
    quantizer.set_amax(None, torch.tensor(5.0) if fmt.outer else None)
    assert torch.equal(dequantize(quantizer.quantize(w)), quantizer(w))


@pytest.mark.parametrize("fmt", [f for f in FORMATS if "_b" not in f.name or "b32" in f.name], ids=lambda f: f.name)
def test_codes_of_a_scaled_rotated_weight_are_those_of_the_forward(fmt):
    w = torch.randn(8, 32).bfloat16()
    quantizer = TensorQuantizer(fmt, "static", channel_axis=0, rotation=Rotation())
    quantizer.set_pre_quant_scale(torch.rand(32) + 0.5)
    coded = quantizer.quantize(w)
    assert coded.dtype == torch.bfloat16
    assert torch.equal(dequantize(coded), quantizer(w))


def test_codes_of_a_transposed_weight_have_their_channels_first(formats):
    w = torch.randn(16, 4, 3)
    quantizer = TensorQuantizer(formats["int8_row"], "static", channel_axis=1)
    assert torch.equal(dequantize(quantizer.quantize(w)), quantizer(w).movedim(1, 0))


def test_a_disabled_quantizer_is_the_identity(formats):
    quantizer = TensorQuantizer(formats["nvfp4"], "dynamic")
    quantizer.disable()
    x = torch.randn(2, 16)
    assert quantizer(x) is x
    quantizer.enable()
    assert not torch.equal(quantizer(x), x)


def test_the_scale_stays_while_rounding_is_disabled_so_that_the_product_stays_right(formats):
    x, w = torch.randn(4, 16), torch.randn(3, 16)
    scale = torch.rand(16) + 0.5
    inputs = TensorQuantizer(formats["fp8"], "dynamic")
    weights = TensorQuantizer(formats["fp8"], "static", channel_axis=0)
    inputs.set_pre_quant_scale(scale)
    weights.set_pre_quant_scale(1 / scale)
    inputs.disable()
    weights.disable()
    assert torch.equal(inputs(x), x * scale)
    # Two fp32 roundings a factor, and the sum of 16 products in another order: 20 · 2^-24 of the summed magnitudes.
    bound = (x.abs() @ w.abs().T) * 20 * 2**-24
    assert ((inputs(x) @ weights(w).T - x @ w.T).abs() <= bound).all()


def test_the_scale_multiplies_the_features_before_rounding_and_is_not_taken_back(formats):
    quantizer = TensorQuantizer(formats["fp8_row"], "dynamic")
    quantizer.set_pre_quant_scale(torch.arange(1.0, 17.0))
    x = torch.randn(4, 16)
    plain = TensorQuantizer(formats["fp8_row"], "dynamic")
    assert torch.equal(quantizer(x), plain(x * torch.arange(1.0, 17.0)))


def test_a_bias_is_taken_off_before_rounding_and_put_back(formats):
    x = 100 + torch.randn(64, 16)
    quantizer = TensorQuantizer(formats["fp8"], "dynamic")
    plain = quantizer(x)
    quantizer.set_bias(x.mean(dim=0))
    assert (quantizer(x) - x).abs().max() < 0.25
    assert (plain - x).abs().max() > 1
    quantizer.disable()
    assert quantizer(x) is x


def test_a_rotation_back_returns_to_the_space_of_the_input(formats):
    x = torch.randn(8, 64)
    x[:, 3] *= 100  # an outlier that one scale a row does not survive
    turned = TensorQuantizer(formats["int8_row"], "dynamic", rotation=Rotation(back=True))
    plain = TensorQuantizer(formats["int8_row"], "dynamic")
    rest = torch.arange(64) != 3
    assert (turned(x) - x)[:, rest].pow(2).sum() < 0.5 * (plain(x) - x)[:, rest].pow(2).sum()
    turned.disable()
    assert turned(x) is x


def test_rotations_of_both_factors_cancel(formats):
    x, w = torch.randn(4, 24), torch.randn(3, 24)
    inputs = TensorQuantizer(formats["fp8"], "dynamic", rotation=Rotation())
    weights = TensorQuantizer(formats["fp8"], "static", channel_axis=0, rotation=Rotation())
    inputs.disable()
    weights.disable()
    assert torch.allclose(inputs(x) @ weights(w).T, x @ w.T, atol=1e-5)


def test_a_calibrated_range_gives_asymmetric_scales(formats):
    fmt = formats["int8_b32_asym"]
    quantizer = TensorQuantizer(fmt, "static", channel_axis=0)
    w = torch.rand(4, 32)
    assert torch.equal(quantizer(w), fake_quantize(w, dynamic_qparams(w, fmt)))
    low, high = torch.zeros(4, 1), torch.full((4, 1), 0.5)
    quantizer.set_range(low, high)
    assert torch.equal(quantizer(w), fake_quantize(w, qparams_from_range(low, high, fmt)))
    assert quantizer(w).max() <= 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_dtype_of_the_input_comes_back_whatever_was_done_to_it(formats, dtype):
    quantizer = TensorQuantizer(formats["nvfp4"], "dynamic", rotation=Rotation(16, back=True))
    quantizer.set_pre_quant_scale(torch.rand(32))
    quantizer.set_bias(torch.ones(1))
    assert quantizer(torch.randn(2, 3, 32, dtype=dtype)).dtype == dtype


def test_features_on_another_axis_are_the_columns(formats):
    x = torch.randn(2, 32, 5, 5)
    quantizer = TensorQuantizer(formats["nvfp4"], "dynamic", view=TokenView(-3))
    plain = TensorQuantizer(formats["nvfp4"], "dynamic")
    assert torch.equal(quantizer(x), plain(x.movedim(1, -1)).movedim(-1, 1))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_no_value_is_read_back_to_the_host(fmt):
    """A fake tensor has no values, so any read of one raises."""
    quantizer = TensorQuantizer(fmt, "static", channel_axis=0)
    with FakeTensorMode():
        assert quantizer(torch.randn(8, 256)).shape == (8, 256)


def test_under_autocast_the_quantizer_computes_as_without(formats):
    x = torch.randn(4, 24)
    quantizer = TensorQuantizer(formats["nvfp4"], "dynamic", rotation=Rotation())
    with torch.autocast("cpu", torch.bfloat16):
        inside = quantizer(x)
    assert torch.equal(inside, quantizer(x))


def test_a_copy_computes_the_same_and_is_its_own(formats):
    quantizer = TensorQuantizer(formats["fp8"], "static", rotation=Rotation(16))
    quantizer.set_amax(torch.tensor([[2.0]]), None)
    twin = copy.deepcopy(quantizer)
    x = torch.randn(2, 16)
    assert torch.equal(twin(x), quantizer(x))
    twin.set_amax(torch.tensor([[1.0]]), None)
    assert not torch.equal(twin(x), quantizer(x))


def test_an_empty_tensor_passes_through(formats):
    x = torch.zeros(0, 16)
    assert TensorQuantizer(formats["fp8"], "dynamic")(x) is x


@pytest.mark.parametrize(("name", "mode"), [("fp8", "static"), ("nvfp4", "dynamic_blocks")])
def test_an_uncalibrated_static_activation_is_refused(formats, name, mode):
    with pytest.raises(CalibrationError, match=f"{name} \\({mode}\\)"):
        TensorQuantizer(formats[name], mode)(torch.ones(1, 16))


def test_the_gradient_is_that_of_the_identity(formats):
    x = torch.randn(3, 16, requires_grad=True)
    TensorQuantizer(formats["nvfp4"], "dynamic")(x).mul(torch.arange(16.0)).sum().backward()
    assert torch.equal(x.grad, torch.arange(16.0).expand(3, 16))


def test_the_observer_sees_the_matrix_also_while_disabled(formats):
    seen = []

    class Spy:
        def update(self, matrix):
            seen.append(matrix.shape)

    quantizer = TensorQuantizer(formats["fp8"], "static")
    quantizer.observer = Spy()
    quantizer.disable()
    quantizer(torch.zeros(2, 5, 7))
    assert seen == [(10, 7)]


def test_what_is_stored_of_an_activation_is_its_outer_scale(formats):
    quantizer = TensorQuantizer(formats["nvfp4"], "dynamic_blocks")
    assert quantizer.calibrated_qparams() is None
    quantizer.set_amax(None, torch.tensor(26.88))
    assert quantizer.calibrated_qparams().scale_2.item() == pytest.approx(0.01)
    assert TensorQuantizer(formats["fp8_row"], "dynamic").calibrated_qparams() is None


def test_another_matrix_is_rounded_afresh_whatever_was_calibrated(formats):
    quantizer = TensorQuantizer(formats["nvfp4"], "static", channel_axis=0)
    quantizer.set_amax(None, torch.tensor(100.0))
    matrix = torch.randn(4, 32)
    assert torch.equal(
        quantizer.rounded_afresh(matrix), fake_quantize(matrix, dynamic_qparams(matrix, quantizer.format))
    )
