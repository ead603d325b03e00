"""Products with stored weights, in Triton's interpreter; run by test_interpreted.py."""

import pytest
import torch

from mtcore.backends import format_key, reference
from mtcore.errors import FormatError
from mtcore.formats import builtin_formats
from mtcore.formats.catalog import (
    FP8,
    FP8_ROW,
    FP8_RUN,
    FP8_TILE,
    INT4_B128,
    INT8_ROW,
    INT8_ROW_FULL,
    INT8_TENSOR,
    NVFP4,
    NVFP4_FP8,
)  # fmt: skip
from mtopt_kernels import configurations, eight_bit, four_bit, fp8, int8, linear
from mtopt_kernels.configurations import Few, FourBit, Gemm, Vector
from mtopt_kernels.parts import COUNTERS, counters
from mtopt_kernels.prepack import prepack_int4, prepack_nvfp4

NVFP4_KEY = format_key(NVFP4)
FORMATS = {fmt.name: fmt for fmt in builtin_formats()}


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
        four_bit.four_bit_unpack(words, scale_bytes, scale_2, 70, torch.float32), expected, rtol=2**-23, atol=0
    )


def test_a_block_whose_scale_is_zero_is_zero_whatever_its_codes_are():
    qdata, scale, scale_2 = stored_nvfp4(16, 128)
    scale = scale.view(torch.uint8).index_fill(1, torch.tensor([3]), 0).view(scale.dtype)
    unpacked = four_bit.four_bit_unpack(*prepack_nvfp4(qdata, scale), scale_2, 16, torch.float32)
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
@pytest.mark.parametrize(
    ("tokens", "with_bias", "dtype"),
    [(2, False, torch.bfloat16), (5, True, torch.bfloat16), (17, False, torch.bfloat16), (1, True, torch.float16)],
)
def test_nvfp4_weights_times_16_bit_inputs(monkeypatch, split, step, warps, tokens, with_bias, dtype):
    how = FourBit(64, 16, split, step, 3, warps)
    monkeypatch.setattr(four_bit, "four_bit_configuration", lambda *sizes, is_int: how)
    rows, cols = 70, 384
    qdata, scale, scale_2 = stored_nvfp4(rows, cols)
    x, bias = torch.randn(tokens, cols).to(dtype), torch.randn(rows) if with_bias else None
    y = linear.nvfp4_linear(x, *prepack_nvfp4(qdata, scale), scale_2, None, None, bias, rows, NVFP4_KEY, "")
    weight = reference.dequantize(qdata, scale, scale_2, cols, torch.float32, NVFP4_KEY)
    expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    # Products are exact; fp32 sums of 384 terms: 384 · 2^-24; the result is rounded to bf16 (the interpreter
    # truncates: 2^-7).
    assert relative(y, expected) <= 2**-7 + 384 * 2**-24
    assert int(counters(x.device).abs().sum()) == 0


@pytest.mark.parametrize("how", [Vector(1, 1), Vector(2, 1), Vector(1, 2), Vector(4, 2)], ids=str)
@pytest.mark.parametrize(
    ("widths", "size", "with_bias"),
    [((70,), 1.0, False), ((16,), 1e12, False), ((16,), 1e-12, True), ((40, 16, 8), 1.0, True)],
)
def test_nvfp4_weights_times_one_token(monkeypatch, how, widths, size, with_bias):
    monkeypatch.setattr(four_bit, "nvfp4_vector_configuration", lambda *sizes: how)
    cols = 384
    stored = [stored_nvfp4(rows, cols) for rows in widths]
    words, scales = zip(*(prepack_nvfp4(*each[:2]) for each in stored), strict=True)
    x = (torch.randn(2 * cols)[1 : cols + 1] * size).bfloat16()[None]
    bias = [torch.randn(rows) * size if with_bias else None for rows in widths]
    outers = [each[2] for each in stored]
    results = linear.nvfp4_linears(x, words, scales, outers, None, None, bias, widths, NVFP4_KEY, "")
    for y, each, rows, added in zip(results, stored, widths, bias, strict=True):
        weight = reference.dequantize(*each, cols, torch.float32, NVFP4_KEY)
        assert y.shape == (1, rows)
        expected = x.double() @ weight.double().T + (added.double() if with_bias else 0)
        # Rounded to bf16, by the interpreter without the last bit: 2^-7; sums of 384 terms in fp32.
        assert relative(y, expected) <= 2**-7 + 384 * 2**-24


def test_one_token_that_is_not_finite_gives_no_number():
    qdata, scale, scale_2 = stored_nvfp4(16, 128)
    x = torch.randn(1, 128).bfloat16()
    x[0, 5] = torch.nan
    y = linear.nvfp4_linear(x, *prepack_nvfp4(qdata, scale), scale_2, None, None, None, 16, NVFP4_KEY, "")
    assert y.isnan().all()


@pytest.mark.parametrize("name", ["int4_b128", "int4_b128_full"])
def test_prepacked_int4_weights_unpack_to_their_values(name):
    key = format_key(FORMATS[name])
    qdata, scale, _ = reference.quantize(torch.randn(70, 256), None, None, key)
    assert set((qdata & 15).unique().tolist()) >= set(range(16)) - {8}, "every code, of both signs"
    expected = reference.dequantize(qdata, scale, None, 256, torch.float32, key)
    assert torch.equal(four_bit.four_bit_unpack(*prepack_int4(qdata, scale), None, 70, torch.float32), expected)


@pytest.mark.parametrize(("split", "step"), [(1, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize(
    ("tokens", "with_bias", "dtype"),
    [(1, False, torch.bfloat16), (5, True, torch.bfloat16), (17, False, torch.bfloat16), (1, True, torch.float16)],
)
def test_int4_weights_times_16_bit_inputs(monkeypatch, split, step, tokens, with_bias, dtype):
    how = FourBit(64, 16, split, step, 3, 2)
    monkeypatch.setattr(four_bit, "four_bit_configuration", lambda *sizes, is_int: how)
    rows, cols, key = 70, 384, format_key(INT4_B128)
    qdata, scale, _ = reference.quantize(torch.randn(rows, cols), None, None, key)
    x, bias = torch.randn(tokens, cols).to(dtype), torch.randn(rows) if with_bias else None
    y = linear.int4_linear(x, *prepack_int4(qdata, scale), None, None, None, bias, rows, key, "")
    weight = reference.dequantize(qdata, scale, None, cols, torch.float32, key)
    expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    assert relative(y, expected) <= 2**-7 + 384 * 2**-24
    assert int(counters(x.device).abs().sum()) == 0


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.bfloat16, 2**-7 + 256 * 2**-24), (torch.float16, 2**-10 + 256 * 2**-24), (torch.float32, 2**-3)],
)
def test_nvfp4_weights_times_fp8_inputs(dtype, bound):
    key, input_key = format_key(NVFP4_FP8), format_key(FP8)
    qdata, scale, scale_2 = reference.quantize(torch.randn(48, 256), None, None, key)
    x, bias = torch.randn(5, 256).to(dtype), torch.randn(48).to(dtype)
    packed = (*prepack_nvfp4(qdata, scale), scale_2)
    y = linear.nvfp4_fp8_linear(x, *packed, torch.full((1, 1), 3.0), None, bias, 48, key, input_key)
    seen = reference.fake_quantize(x.float(), torch.full((1, 1), 3.0), None, input_key).double()
    values = reference.dequantize(qdata, scale, scale_2, 256, torch.float32, key).double()
    # In 16 bits the few tokens' product is exact up to its rounding. In fp32 weights are rounded to e4m3, here by
    # the interpreter, by one unit in its last place at most: 2^-3.
    assert relative(y, seen @ values.T + bias.double()) <= bound


@pytest.mark.parametrize("split", [1, 3])
@pytest.mark.parametrize(
    ("weight_format", "input_format"), [(INT8_ROW, INT8_ROW_FULL), (INT8_ROW, INT8_TENSOR), (INT8_TENSOR, INT8_ROW)]
)
def test_int8_weights_times_few_int8_tokens(monkeypatch, split, weight_format, input_format):
    monkeypatch.setattr(int8, "int8_configuration", lambda *sizes: Few(64, 16, 64, split, 3, 4))
    checked_product(weight_format, input_format, 70, 200, 5, True)


def test_int8_weights_times_many_int8_tokens(monkeypatch):
    monkeypatch.setattr(int8, "int8_configuration", lambda *sizes: None)
    how = Gemm(64, 64, 128, 2, 2, 2, 4, 1, False)
    monkeypatch.setattr(int8, "int8_gemm_configuration", lambda *sizes: how)
    checked_product(INT8_ROW, INT8_ROW_FULL, 208, 272, 150, True, torch.float16)


def test_the_largest_int8_codes_add_up_without_overflow():
    codes = torch.full((1, 3000), -128, dtype=torch.int8)
    one = torch.ones(1, 1)
    y = int8.int8_product(codes, one, codes, one, None, torch.float32)
    assert float(y) == 3000 * 2**14


@pytest.mark.parametrize("split", [1, 3])
@pytest.mark.parametrize(("weight_format", "input_format"), [(FP8, FP8), (FP8_ROW, FP8_ROW), (FP8_ROW, FP8)])
def test_fp8_weights_times_fp8_inputs(monkeypatch, split, weight_format, input_format):
    monkeypatch.setattr(fp8, "fp8_configuration", lambda *sizes, by_row, by_block: Few(64, 16, 64, split, 3, 4))
    checked_product(weight_format, input_format, 70, 200, 5, True)


@pytest.mark.parametrize("weights", [1, 2])
@pytest.mark.parametrize("magnitude", [2.5, 0.0, -1.0, 1e-44, torch.inf])
@pytest.mark.parametrize(("weight_format", "input_format"), [(FP8, FP8), (FP8_ROW, FP8), (INT8_ROW, INT8_TENSOR)])
def test_a_calibrated_magnitude_in_place_of_a_scale_gives_the_same_bits(
    weight_format, input_format, magnitude, weights
):
    key, input_key, amax = format_key(weight_format), format_key(input_format), torch.tensor([[magnitude]])
    x = torch.randn(5, 200).bfloat16()
    stored = [reference.quantize(torch.randn(70, 200), None, None, key) for _ in range(weights)]
    each = [s[0] for s in stored], [s[1] for s in stored], [None] * weights, [None] * weights, [70] * weights
    codes, scale, _ = reference.quantize(x, amax, None, input_key)
    product = linear.int8_linears_of_codes if codes.dtype == torch.int8 else linear.fp8_linears_of_codes
    from_scale, from_amax = (
        product(codes, *given, *each, x.dtype, key, input_key) for given in ((scale, None), (None, amax))
    )
    for one, other in zip(from_scale, from_amax, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("make", "x_format"), [(FP8, FP8), (INT8_ROW, INT8_TENSOR)])
def test_many_tokens_take_the_scale_of_a_calibrated_magnitude_too(monkeypatch, make, x_format):
    how = Gemm(64, 64, 128, 2, 1, 2, 4, 1, False)
    monkeypatch.setattr(fp8, "fp8_configuration", lambda *sizes, by_row, by_block: None)
    monkeypatch.setattr(fp8, "fp8_gemm_configuration", lambda *sizes, by_block: how)
    monkeypatch.setattr(int8, "int8_configuration", lambda *sizes: None)
    monkeypatch.setattr(int8, "int8_gemm_configuration", lambda *sizes: how)
    key, input_key, amax = format_key(make), format_key(x_format), torch.tensor(2.5)
    weight = reference.quantize(torch.randn(64, 128), None, None, key)
    for tokens in (linear.AMAX_TOKENS, linear.AMAX_TOKENS + 1):
        x = torch.randn(tokens, 128).half()
        codes, scale, _ = reference.quantize(x, amax.view(1, 1), None, input_key)
        product = linear.int8_linears_of_codes if codes.dtype == torch.int8 else linear.fp8_linears_of_codes
        each = [weight[0]], [weight[1]], [None], [None], [64], x.dtype, key, input_key
        assert torch.equal(product(codes, scale, None, *each)[0], product(codes, None, amax, *each)[0])


def checked_product(weight_format, input_format, features, inner, tokens, with_bias, dtype=torch.bfloat16):
    weight, x = torch.randn(features, inner), torch.randn(tokens, inner).to(dtype)
    bias = torch.randn(features).bfloat16() if with_bias else None
    key, input_key = format_key(weight_format), format_key(input_format)
    qdata, scale, _ = reference.quantize(weight, None, None, key)
    product = linear.int8_linear if qdata.dtype == torch.int8 else linear.fp8_linear
    y = product(x, qdata, scale, None, None, None, bias, features, key, input_key)
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
    monkeypatch.setattr(eight_bit, "processors", lambda device: 2)  # so that each program computes several tiles
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


TOGETHER = (
    (NVFP4, None, linear.nvfp4_linears, linear.nvfp4_linear),
    (INT4_B128, None, linear.int4_linears, linear.int4_linear),
    (NVFP4_FP8, FP8, linear.nvfp4_fp8_linears, linear.nvfp4_fp8_linear),
    (FP8, FP8, linear.fp8_linears, linear.fp8_linear),
    (FP8_ROW, FP8_ROW, linear.fp8_linears, linear.fp8_linear),
    (FP8_TILE, FP8_RUN, linear.fp8_linears, linear.fp8_linear),
    (INT8_ROW, INT8_ROW, linear.int8_linears, linear.int8_linear),
)


@pytest.mark.parametrize(
    ("widths", "split", "biases"),
    [
        ((70, 16), 1, "all"),
        ((16, 70, 33), 2, "none"),
        ((16, 16, 16, 70), 1, "none"),
        ((16, 33, 16, 16, 33), 2, "one"),
    ],
)
@pytest.mark.parametrize(
    ("fmt", "given", "together", "alone"), TOGETHER, ids=lambda value: getattr(value, "name", "")
)
def test_several_weights_in_one_kernel_give_the_bits_of_each_alone(
    monkeypatch, fmt, given, together, alone, widths, split, biases
):
    how, few = FourBit(64, 16, split, 1, 3, 2), Few(64, 16, 128, split, 3, 4)
    monkeypatch.setattr(four_bit, "four_bit_configuration", lambda *sizes, is_int: how)
    monkeypatch.setattr(fp8, "fp8_configuration", lambda *sizes, by_row, by_block: few)
    monkeypatch.setattr(int8, "int8_configuration", lambda *sizes: few)
    inner, key = 256, format_key(fmt)
    outers = [torch.tensor(3.0 + i) if fmt.outer is not None else None for i in range(len(widths))]
    stored = [
        reference.quantize(torch.randn(width, inner) * (i + 1), None, outer, key)
        for i, (width, outer) in enumerate(zip(widths, outers, strict=True))
    ]
    prepare = {NVFP4: prepack_nvfp4, NVFP4_FP8: prepack_nvfp4, INT4_B128: prepack_int4}.get(fmt, lambda *both: both)
    weights, scales = zip(*(prepare(*each[:2]) for each in stored), strict=True)
    scale_2 = [each[2] if each[2].numel() else None for each in stored]
    wanted = {"all": len(widths), "none": 0, "one": 1}[biases]
    bias = [torch.randn(width) if place < wanted else None for place, width in enumerate(widths)]
    x, amax = torch.randn(5, inner).bfloat16(), torch.full((1, 1), 3.0) if given == FP8 else None
    last = (key, "" if given is None else format_key(given))
    results = together(x, weights, scales, scale_2, amax, None, bias, widths, *last)
    assert [tuple(y.shape) for y in results] == [(5, width) for width in widths]
    for y, *one, width in zip(results, weights, scales, scale_2, bias, widths, strict=True):
        expected = alone(x, *one[:3], amax, None, one[3], width, *last)
        assert torch.equal(y, expected)
    assert int(counters(x.device).abs().sum()) == 0


def test_no_tokens_give_an_empty_result():
    qdata, scale, scale_2 = stored_nvfp4(16, 128)
    y = linear.nvfp4_linear(
        torch.zeros(0, 128).bfloat16(), *prepack_nvfp4(qdata, scale), scale_2, None, None, None, 16, NVFP4_KEY, ""
    )
    assert y.shape == (0, 16)


@pytest.mark.parametrize("tokens", [1, 5, 300])
@pytest.mark.parametrize(
    ("fmt", "prepare"), [(NVFP4, prepack_nvfp4), (INT4_B128, prepack_int4)], ids=["nvfp4", "int4"]
)
def test_no_features_give_an_empty_result(fmt, prepare, tokens):
    key = format_key(fmt)
    qdata, scale, scale_2 = reference.quantize(torch.zeros(0, 128), None, None, key)
    words, scales = prepare(qdata, scale)
    stored = [words], [scales], [scale_2], None, None, [None], [0]
    (y,) = linear.four_bit_linears(torch.ones(tokens, 128).bfloat16(), *stored, key, "")
    assert y.shape == (tokens, 0)


@pytest.mark.parametrize(("by_row", "by_block"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("tokens", [1, 16, 17, 64, 65, 4096])
@pytest.mark.parametrize(("features", "inner"), [(16, 16), (4096, 4096), (28672, 8192), (4096, 14336)])
def test_no_configuration_needs_more_counters_than_there_are(tokens, features, inner, by_row, by_block):
    how = configurations.four_bit_configuration(tokens, features, inner, is_int=by_block)
    assert how.split == 1 or -(-features // how.high) * -(-tokens // how.wide) <= COUNTERS
    few = configurations.fp8_configuration(tokens, features, inner, by_row=by_row, by_block=by_block)
    assert few is None or -(-features // few[0]) * -(-tokens // few[1]) <= COUNTERS
