"""Products with stored weights, in Triton's interpreter; run by test_interpreted.py."""

from functools import partial

import pytest
import torch

from mtcore.backends import format_key, reference
from mtcore.errors import FormatError
from mtcore.formats.catalog import FP8, FP8_ROW, FP8_RUN, FP8_TILE, NVFP4
from mtopt_kernels import configurations, fp8, linear, nvfp4
from mtopt_kernels.configurations import Few, Gemm, Nvfp4
from mtopt_kernels.parts import COUNTERS, counters
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
        nvfp4.nvfp4_unpack(words, scale_bytes, scale_2, 70, torch.float32), expected, rtol=2**-23, atol=0
    )


def test_a_block_whose_scale_is_zero_is_zero_whatever_its_codes_are():
    qdata, scale, scale_2 = stored_nvfp4(16, 128)
    scale = scale.view(torch.uint8).index_fill(1, torch.tensor([3]), 0).view(scale.dtype)
    unpacked = nvfp4.nvfp4_unpack(*prepack_nvfp4(qdata, scale), scale_2, 16, torch.float32)
    expected = reference.dequantize(qdata, scale, scale_2, 128, torch.float32, NVFP4_KEY)
    torch.testing.assert_close(unpacked, expected, rtol=2**-23, atol=0)


def test_a_weight_that_was_not_finite_is_refused():
    weight = torch.randn(16, 128)
    weight[2, 3] = torch.nan
    qdata, scale, _ = reference.quantize(weight, None, torch.tensor(4.0), NVFP4_KEY)
    with pytest.raises(FormatError, match="NaN or negative"):
        prepack_nvfp4(qdata, scale)


@pytest.mark.parametrize("warps", [2, 4])
@pytest.mark.parametrize(("split", "step"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize(("tokens", "with_bias"), [(1, False), (5, True), (17, False)])
def test_nvfp4_weights_times_16_bit_inputs(monkeypatch, split, step, warps, tokens, with_bias):
    monkeypatch.setattr(nvfp4, "nvfp4_configuration", lambda *sizes: Nvfp4(64, 16, split, step, 3, warps))
    rows, cols = 70, 384
    qdata, scale, scale_2 = stored_nvfp4(rows, cols)
    x, bias = torch.randn(tokens, cols).bfloat16(), torch.randn(rows) if with_bias else None
    y = linear.nvfp4_linear(x, *prepack_nvfp4(qdata, scale), scale_2, None, None, bias, rows, NVFP4_KEY, "")
    weight = reference.dequantize(qdata, scale, scale_2, cols, torch.float32, NVFP4_KEY)
    expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    # Products are exact; fp32 sums of 384 terms: 384 · 2^-24; the result is rounded to bf16 (the interpreter
    # truncates: 2^-7).
    assert relative(y, expected) <= 2**-7 + 384 * 2**-24
    assert int(counters(x.device).abs().sum()) == 0


@pytest.mark.parametrize("split", [1, 3])
@pytest.mark.parametrize(("weight_format", "input_format"), [(FP8, FP8), (FP8_ROW, FP8_ROW), (FP8_ROW, FP8)])
def test_fp8_weights_times_fp8_inputs(monkeypatch, split, weight_format, input_format):
    configuration = partial(lambda *sizes, by_row, by_block: Few(64, 16, 64, split, 3, 4))
    monkeypatch.setattr(fp8, "fp8_configuration", configuration)
    weight, x, bias = torch.randn(70, 200), torch.randn(5, 200).bfloat16(), torch.randn(70)
    key, input_key = format_key(weight_format), format_key(input_format)
    qdata, scale, _ = reference.quantize(weight, None, None, key)
    y = linear.fp8_linear(x, qdata, scale, None, None, None, bias, 70, key, input_key)
    seen = reference.fake_quantize(x.float(), None, None, input_key).double()
    values = reference.dequantize(qdata, scale, None, 200, torch.float32, key).double()
    assert relative(y, seen @ values.T + bias.double()) <= 2**-7 + 200 * 2**-24


def checked_product(weight_format, input_format, features, inner, tokens, with_bias, dtype=torch.bfloat16):
    weight, x = torch.randn(features, inner), torch.randn(tokens, inner).to(dtype)
    bias = torch.randn(features).bfloat16() if with_bias else None
    key, input_key = format_key(weight_format), format_key(input_format)
    qdata, scale, _ = reference.quantize(weight, None, None, key)
    y = linear.fp8_linear(x, qdata, scale, None, None, None, bias, features, key, input_key)
    seen = reference.fake_quantize(x.float(), None, None, input_key).double()
    values = reference.dequantize(qdata, scale, None, inner, torch.float32, key).double()
    expected = seen @ values.T + (0 if bias is None else bias.double())
    assert relative(y, expected) <= 2**-7 + inner * 2**-24


@pytest.mark.parametrize("split", [1, 2])
@pytest.mark.parametrize(("features", "inner"), [(70, 200), (144, 300), (144, 100)])
def test_fp8_by_blocks_times_few_tokens(monkeypatch, split, features, inner):
    monkeypatch.setattr(fp8, "fp8_configuration", lambda *sizes, by_row, by_block: Few(64, 16, 128, split, 3, 4))
    checked_product(FP8_TILE, FP8_RUN, features, inner, 5, True)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(
    ("weight_format", "input_format"), [(FP8, FP8), (FP8_ROW, FP8_ROW), (FP8_ROW, FP8), (FP8_TILE, FP8_RUN)]
)
def test_fp8_weights_times_many_tokens(monkeypatch, parts, weight_format, input_format):
    how = Gemm(64, 64, 128, 2, parts, 2, 4, 1, False)
    monkeypatch.setattr(fp8, "fp8_configuration", lambda *sizes, by_row, by_block: None)
    monkeypatch.setattr(fp8, "fp8_gemm_configuration", lambda *sizes, by_block: how)
    monkeypatch.setattr(fp8, "processors", lambda device: 2)  # so that each program computes several tiles
    checked_product(weight_format, input_format, 208, 272, 150, parts == 2, torch.float16)


@pytest.mark.parametrize(("tokens", "features", "inner"), [(3, 20, 48), (130, 140, 272)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_nvfp4_weights_times_nvfp4_inputs(tokens, features, inner, with_bias):
    x, bias = torch.randn(tokens, inner).bfloat16(), torch.randn(features) if with_bias else None
    stored = stored_nvfp4(features, inner)
    outer = torch.tensor(4.0)
    y = linear.nvfp4_scaled_linear(x, *stored, None, outer, bias, features, NVFP4_KEY, NVFP4_KEY)
    seen = reference.fake_quantize(x.float(), None, outer, NVFP4_KEY).double()
    values = reference.dequantize(*stored, inner, torch.float32, NVFP4_KEY).double()
    expected = seen @ values.T + (0 if bias is None else bias.double())
    assert relative(y, expected) <= 2**-7 + inner * 2**-24


def test_no_tokens_give_an_empty_result():
    qdata, scale, scale_2 = stored_nvfp4(16, 128)
    y = linear.nvfp4_linear(
        torch.zeros(0, 128).bfloat16(), *prepack_nvfp4(qdata, scale), scale_2, None, None, None, 16, NVFP4_KEY, ""
    )
    assert y.shape == (0, 16)


@pytest.mark.parametrize(("by_row", "by_block"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("tokens", [1, 16, 17, 64, 65, 4096])
@pytest.mark.parametrize(("features", "inner"), [(16, 16), (4096, 4096), (28672, 8192), (4096, 14336)])
def test_no_configuration_needs_more_counters_than_there_are(tokens, features, inner, by_row, by_block):
    how = configurations.nvfp4_configuration(tokens, features, inner)
    assert how.split == 1 or -(-features // how.high) * -(-tokens // how.wide) <= COUNTERS
    few = configurations.fp8_configuration(tokens, features, inner, by_row=by_row, by_block=by_block)
    assert few is None or -(-features // few[0]) * -(-tokens // few[1]) <= COUNTERS
