"""Linear layers with stored weights, as `mtcore.backends.reference.linear` defines them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mtopt_kernels.constants import known
from mtopt_kernels.four_bit import four_bit_product, nvfp4_fp8_product
from mtopt_kernels.fp8 import fp8_product
from mtopt_kernels.int8 import int8_product
from mtopt_kernels.launch import dequantize, quantize
from mtopt_kernels.nvfp4 import nvfp4_scaled_product


def nvfp4_linear(
    x: Tensor,
    words: Tensor,
    scale_bytes: Tensor,
    scale_2: Tensor,
    input_amax: None,
    input_outer_amax: None,
    bias: Tensor | None,
    features: int,
    format: str,
    input_format: str,
) -> Tensor:
    """See `mtcore.backends.reference.linear`; the weight as `prepack_nvfp4` lays it out."""
    return four_bit_product(x, words, scale_bytes, scale_2, bias, features)


def int4_linear(
    x: Tensor,
    words: Tensor,
    scales: Tensor,
    scale_2: None,
    input_amax: None,
    input_outer_amax: None,
    bias: Tensor | None,
    features: int,
    format: str,
    input_format: str,
) -> Tensor:
    """See `mtcore.backends.reference.linear`; the weight as `prepack_int4` lays it out."""
    return four_bit_product(x, words, scales, None, bias, features)


def nvfp4_fp8_linear(
    x: Tensor,
    words: Tensor,
    scale_bytes: Tensor,
    scale_2: Tensor,
    input_amax: Tensor | None,
    input_outer_amax: None,
    bias: Tensor | None,
    features: int,
    format: str,
    input_format: str,
) -> Tensor:
    """See `mtcore.backends.reference.linear`; the weight as `prepack_nvfp4` lays it out, inputs in e4m3. With many
    tokens it is rounded once more (see `nvfp4_fp8_product`)."""
    codes, x_scale, _ = quantize(x, input_amax, None, input_format)
    return nvfp4_fp8_product(codes, x_scale, words, scale_bytes, scale_2, bias, features, x.dtype)


def nvfp4_scaled_linear(
    x: Tensor,
    qdata: Tensor,
    scale: Tensor,
    scale_2: Tensor,
    input_amax: Tensor | None,
    input_outer_amax: Tensor | None,
    bias: Tensor | None,
    features: int,
    format: str,
    input_format: str,
) -> Tensor:
    """See `mtcore.backends.reference.linear`; NVFP4 for both factors."""
    codes, x_scale, x_scale_2 = quantize(x, input_amax, input_outer_amax, input_format)
    return nvfp4_scaled_product(codes, x_scale, x_scale_2, qdata, scale, scale_2, bias, x.dtype)


def fp8_linear(
    x: Tensor,
    qdata: Tensor,
    scale: Tensor,
    scale_2: None,
    input_amax: Tensor | None,
    input_outer_amax: None,
    bias: Tensor | None,
    features: int,
    format: str,
    input_format: str,
) -> Tensor:
    """See `mtcore.backends.reference.linear`; e4m3 for both factors."""
    codes, x_scale, _ = quantize(x, input_amax, None, input_format)
    by_block = known(format).fmt.block.rows > 1
    return fp8_product(codes, x_scale, qdata, scale, bias, x.dtype, by_block=by_block)


def int8_linear(
    x: Tensor,
    qdata: Tensor,
    scale: Tensor,
    scale_2: None,
    input_amax: Tensor | None,
    input_outer_amax: None,
    bias: Tensor | None,
    features: int,
    format: str,
    input_format: str,
) -> Tensor:
    """See `mtcore.backends.reference.linear`; int8 for both factors."""
    codes, x_scale, _ = quantize(x, input_amax, None, input_format)
    return int8_product(codes, x_scale, qdata, scale, bias, x.dtype)


def dequantized_linear(
    x: Tensor,
    qdata: Tensor,
    scale: Tensor,
    scale_2: Tensor | None,
    input_amax: None,
    input_outer_amax: None,
    bias: Tensor | None,
    features: int,
    format: str,
    input_format: str,
) -> Tensor:
    """See `mtcore.backends.reference.linear`: the weight is dequantized first, for formats without a product."""
    return F.linear(x, dequantize(qdata, scale, scale_2, x.shape[1], x.dtype, format), bias)
