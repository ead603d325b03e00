"""Linear layers with stored weights, as `mtcore.backends.reference.linear` and `linears` define them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtopt_kernels.alone import as_several
from mtopt_kernels.configurations import FOUR_BIT_FUSED_TOKENS
from mtopt_kernels.constants import known
from mtopt_kernels.eight_bit import scale_from
from mtopt_kernels.four_bit import four_bit_products, nvfp4_fp8_products
from mtopt_kernels.fp8 import fp8_products
from mtopt_kernels.int8 import int8_products
from mtopt_kernels.launch import dequantize, quantize
from mtopt_kernels.nvfp4_scaled import nvfp4_scaled_product
from mtopt_kernels.replay import replayed
from mtopt_kernels.start import starts_early

AMAX_TOKENS = 16
"""Up to so many, the kernel for few tokens is the fastest, for one weight or several, and makes a scale of a
calibrated magnitude itself. With more, that is done once for all weights, in place of quantizing."""

_replayed = partial(replayed, depends=starts_early, rows=FOUR_BIT_FUSED_TOKENS)
"""For products: with more tokens torch multiplies, or kernels do that read by descriptors."""


@_replayed
def four_bit_linears(
    x: Tensor,
    words: Sequence[Tensor],
    scales: Sequence[Tensor],
    scale_2: Sequence[Tensor | None],
    input_amax: None,
    input_outer_amax: None,
    bias: Sequence[Tensor | None],
    features: Sequence[int],
    format: str,
    input_format: str,
) -> list[Tensor]:
    """See `mtcore.backends.reference.linears`; the weights as `prepack_nvfp4` or `prepack_int4` lays them out."""
    return four_bit_products(x, words, scales, scale_2, bias, features)


nvfp4_linears = int4_linears = four_bit_linears


def _nvfp4_fp8_linears_of_codes(
    codes: Tensor,
    input_scale: Tensor | None,
    input_amax: Tensor | None,
    words: Sequence[Tensor],
    scale_bytes: Sequence[Tensor],
    scale_2: Sequence[Tensor],
    bias: Sequence[Tensor | None],
    features: Sequence[int],
    dtype: torch.dtype,
    format: str,
    input_format: str,
) -> list[Tensor]:
    """See `mtopt_kernels.fused.linears_of_codes`; the weights as `prepack_nvfp4` lays them out. With many
    tokens they are rounded once more (see `nvfp4_fp8_products`)."""
    x_scale = _scale(input_scale, input_amax, input_format)
    return nvfp4_fp8_products(codes, x_scale, words, scale_bytes, scale_2, bias, features, dtype)


def _fp8_linears_of_codes(
    codes: Tensor,
    input_scale: Tensor | None,
    input_amax: Tensor | None,
    qdata: Sequence[Tensor],
    scale: Sequence[Tensor],
    scale_2: Sequence[None],
    bias: Sequence[Tensor | None],
    features: Sequence[int],
    dtype: torch.dtype,
    format: str,
    input_format: str,
) -> list[Tensor]:
    """See `mtopt_kernels.fused.linears_of_codes`; e4m3 for both factors."""
    x_scale, amax_in = _scale_or_amax(codes, input_scale, input_amax, input_format)
    by_block = known(format).fmt.block.rows > 1
    return fp8_products(codes, x_scale, qdata, scale, bias, dtype, by_block=by_block, amax_in=amax_in)


def _int8_linears_of_codes(
    codes: Tensor,
    input_scale: Tensor | None,
    input_amax: Tensor | None,
    qdata: Sequence[Tensor],
    scale: Sequence[Tensor],
    scale_2: Sequence[None],
    bias: Sequence[Tensor | None],
    features: Sequence[int],
    dtype: torch.dtype,
    format: str,
    input_format: str,
) -> list[Tensor]:
    """See `mtopt_kernels.fused.linears_of_codes`; int8 for both factors."""
    x_scale, amax_in = _scale_or_amax(codes, input_scale, input_amax, input_format)
    return int8_products(codes, x_scale, qdata, scale, bias, dtype, amax_in=amax_in)


def _scale(input_scale: Tensor | None, input_amax: Tensor | None, input_format: str) -> Tensor:
    """The scales, of which one of the two is enough."""
    if input_scale is not None:
        return input_scale
    assert input_amax is not None
    return scale_from(input_amax, input_format)


def _scale_or_amax(
    codes: Tensor, input_scale: Tensor | None, input_amax: Tensor | None, input_format: str
) -> tuple[Tensor, str]:
    """Scales; or a magnitude and the key of its format, of which the kernel for few tokens makes a scale itself."""
    if input_amax is not None and codes.shape[0] <= AMAX_TOKENS:
        return input_amax, input_format
    return _scale(input_scale, input_amax, input_format), ""


def _quantizing(linears_of_codes: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """The same for inputs that are not quantized yet."""

    @_replayed
    def linears(
        x: Tensor,
        qdata: Sequence[Tensor],
        scale: Sequence[Tensor],
        scale_2: Sequence[Tensor | None],
        input_amax: Tensor | None,
        input_outer_amax: None,
        bias: Sequence[Tensor | None],
        features: Sequence[int],
        format: str,
        input_format: str,
    ) -> list[Tensor]:
        """See `mtcore.backends.reference.linears`."""
        codes, x_scale, _ = quantize(x, input_amax, None, input_format)
        each = qdata, scale, scale_2, bias, features
        return linears_of_codes(codes, x_scale, None, *each, x.dtype, format, input_format)

    return linears


nvfp4_fp8_linears_of_codes = _replayed(_nvfp4_fp8_linears_of_codes)
fp8_linears_of_codes = _replayed(_fp8_linears_of_codes)
int8_linears_of_codes = _replayed(_int8_linears_of_codes)
nvfp4_fp8_linears = _quantizing(_nvfp4_fp8_linears_of_codes)
fp8_linears = _quantizing(_fp8_linears_of_codes)
int8_linears = _quantizing(_int8_linears_of_codes)


def _alone(linears: Callable[..., list[Tensor]]) -> Callable[..., Tensor]:
    """The same for one weight."""

    def linear(*arguments: Any) -> Tensor:
        """See `mtcore.backends.reference.linear`."""
        return linears(*as_several(*arguments))[0]

    return linear


nvfp4_linear = _alone(nvfp4_linears)
int4_linear = _alone(int4_linears)
nvfp4_fp8_linear = _alone(nvfp4_fp8_linears)
fp8_linear = _alone(fp8_linears)
int8_linear = _alone(int8_linears)


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
