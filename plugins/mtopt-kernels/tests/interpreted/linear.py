"""Products with stored weights, in Triton's interpreter; run by test_interpreted.py."""

from functools import partial

import pytest
import torch

from mtcore.backends import format_key, reference
from mtcore.errors import FormatError
from mtcore.formats.catalog import FP8, FP8_ROW, NVFP4
from mtopt_kernels import configurations, linear
from mtopt_kernels.prepack import prepack_nvfp4

NVFP4_KEY = format_key(NVFP4)


def relative(actual, expected):
    return float((actual.double() - expected).abs().max() / expected.abs().max())


def stored_nvfp4(rows, cols):
    weight = torch.randn(rows, cols) * torch.logspace(-6, 2, rows)[:, None]  # subnormal scales too
    return reference.quantize(weight, None, None, NVFP4_KEY)


def test_prepacking_and_unpacking_give_the_weight():
    qdata, scale, scale_2 = stored_nvfp4(70, 256)
    words, scale_bytes = prepack_nvfp4(qdata, scale)
    expected = reference.dequantize(qdata, scale, scale_2, 256, torch.float32, NVFP4_KEY)
    # code · scale is exact; one product with the outer scale instead of two: 1 unit in the last place of fp32
    torch.testing.assert_close(
        linear.nvfp4_unpack(words, scale_bytes, scale_2, torch.float32), expected, rtol=2**-23, atol=0
    )


def test_a_block_whose_scale_is_zero_is_zero_whatever_its_codes_are():
    qdata, scale, scale_2 = stored_nvfp4(16, 128)
    scale = scale.view(torch.uint8).index_fill(1, torch.tensor([3]), 0).view(scale.dtype)
    unpacked = linear.nvfp4_unpack(*prepack_nvfp4(qdata, scale), scale_2, torch.float32)
    expected = reference.dequantize(qdata, scale, scale_2, 128, torch.float32, NVFP4_KEY)
    torch.testing.assert_close(unpacked, expected, rtol=2**-23, atol=0)


def test_a_weight_that_was_not_finite_is_refused():
    weight = torch.randn(16, 128)
    weight[2, 3] = torch.nan
    qdata, scale, _ = reference.quantize(weight, None, torch.tensor(4.0), NVFP4_KEY)
    with pytest.raises(FormatError, match="NaN or negative"):
        prepack_nvfp4(qdata, scale)


@pytest.mark.parametrize("split", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 5, 17])
@pytest.mark.parametrize("with_bias", [False, True])
def test_nvfp4_weights_times_16_bit_inputs(monkeypatch, split, tokens, with_bias):
    monkeypatch.setattr(linear, "nvfp4_configuration", lambda *sizes: (64, 16, split, 3, 2))
    rows, cols = 70, 384
    qdata, scale, scale_2 = stored_nvfp4(rows, cols)
    x, bias = torch.randn(tokens, cols).bfloat16(), torch.randn(rows) if with_bias else None
    y = linear.nvfp4_linear(x, *prepack_nvfp4(qdata, scale), scale_2, None, None, bias, rows, NVFP4_KEY, "")
    weight = reference.dequantize(qdata, scale, scale_2, cols, torch.float32, NVFP4_KEY)
    expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    # Products are exact; fp32 sums of 384 terms: 384 · 2^-24; the result is rounded to bf16 (the interpreter
    # truncates: 2^-7).
    assert relative(y, expected) <= 2**-7 + 384 * 2**-24
    assert int(linear.counters(x.device).abs().sum()) == 0


@pytest.mark.parametrize("split", [1, 3])
@pytest.mark.parametrize(("weight_format", "input_format"), [(FP8, FP8), (FP8_ROW, FP8_ROW), (FP8_ROW, FP8)])
def test_fp8_weights_times_fp8_inputs(monkeypatch, split, weight_format, input_format):
    configuration = partial(lambda *sizes, by_row: (64, 16, 64, split, 3, 4))
    monkeypatch.setattr(linear, "fp8_configuration", configuration)
    weight, x, bias = torch.randn(70, 200), torch.randn(5, 200).bfloat16(), torch.randn(70)
    key, input_key = format_key(weight_format), format_key(input_format)
    qdata, scale, _ = reference.quantize(weight, None, None, key)
    y = linear.fp8_linear(x, qdata, scale, None, None, None, bias, 70, key, input_key)
    seen = reference.fake_quantize(x.float(), None, None, input_key).double()
    values = reference.dequantize(qdata, scale, None, 200, torch.float32, key).double()
    assert relative(y, seen @ values.T + bias.double()) <= 2**-7 + 200 * 2**-24


def test_no_tokens_give_an_empty_result():
    qdata, scale, scale_2 = stored_nvfp4(16, 128)
    y = linear.nvfp4_linear(
        torch.zeros(0, 128).bfloat16(), *prepack_nvfp4(qdata, scale), scale_2, None, None, None, 16, NVFP4_KEY, ""
    )
    assert y.shape == (0, 16)


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("tokens", [1, 16, 17, 64, 65, 4096])
@pytest.mark.parametrize(("features", "inner"), [(16, 16), (4096, 4096), (28672, 8192), (4096, 14336)])
def test_no_configuration_needs_more_counters_than_there_are(tokens, features, inner, by_row):
    high, wide, split, *_ = configurations.nvfp4_configuration(tokens, features, inner)
    assert split == 1 or -(-features // high) * -(-tokens // wide) <= linear.COUNTERS
    fp8 = configurations.fp8_configuration(tokens, features, inner, by_row=by_row)
    assert fp8 is None or -(-features // fp8[0]) * -(-tokens // fp8[1]) <= linear.COUNTERS
