"""The quantizer of one tensor: what it computes, what it refuses, what it keeps."""

import pytest
import torch

from mtcore.errors import CalibrationError
from mtcore.formats import builtin_formats
from mtcore.nn import TensorQuantizer
from mtcore.numerics import dequantize, dynamic_qparams, fake_quantize, token_matrix, weight_matrix

FORMATS = [fmt for fmt in builtin_formats() if fmt.symmetric]


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


def test_a_disabled_quantizer_is_the_identity(formats):
    quantizer = TensorQuantizer(formats["nvfp4"], "dynamic")
    quantizer.disable()
    x = torch.randn(2, 16)
    assert quantizer(x) is x
    quantizer.enable()
    assert not torch.equal(quantizer(x), x)


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


def test_calibrated_state_loads_into_a_fresh_quantizer(formats):
    old = TensorQuantizer(formats["nvfp4"], "dynamic_blocks")
    old.set_amax(None, torch.tensor(3.0))
    new = TensorQuantizer(formats["nvfp4"], "dynamic_blocks")
    new.load_state_dict(old.state_dict())
    x = torch.randn(2, 16)
    assert torch.equal(new(x), old(x))


def test_what_is_stored_of_an_activation_is_its_outer_scale(formats):
    quantizer = TensorQuantizer(formats["nvfp4"], "dynamic_blocks")
    assert quantizer.calibrated_qparams() is None
    quantizer.set_amax(None, torch.tensor(26.88))
    assert quantizer.calibrated_qparams().scale_2.item() == pytest.approx(0.01)
    assert TensorQuantizer(formats["fp8_row"], "dynamic").calibrated_qparams() is None
