"""Products of INT8 inputs with INT8 weights: which kernel, and on how many programs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtopt_kernels.configurations import Few, int8_configuration, int8_gemm_configuration
from mtopt_kernels.eight_bit import eight_bit_few_tokens, eight_bit_gemm, eight_bit_products, scale_from


def int8_product(
    x: Tensor,
    x_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    *,
    amax_in: str = "",
) -> Tensor:
    """x · weightᵀ with the scales of both and a bias. Codes add up exactly, in int32.

    Args:
        x: int8 [tokens, inner], inner below `LONGEST_INNER`; its scales are fp32 [1, 1] or [tokens, 1].
        weight: int8 [features, inner]; its scales are fp32 [1, 1] or [features, 1].
        dtype: of the result [tokens, features].
        amax_in: as for `eight_bit_few_tokens`.
    """
    (tokens, inner), features = x.shape, weight.shape[0]
    few = int8_configuration(tokens, features, inner)
    aligned = inner % 16 == 0 and features % 16 == 0 and dtype in (torch.bfloat16, torch.float16)
    if few is not None or not aligned or not tokens:
        how = few or Few(64, 64, 128, 1, 4, 4)
        return eight_bit_few_tokens(x, x_scale, [weight], [scale], [bias], how, dtype, amax_in=amax_in)[0]
    x_scale = scale_from(x_scale, amax_in) if amax_in else x_scale
    return eight_bit_gemm(x, x_scale, weight, scale, bias, int8_gemm_configuration(tokens, features), dtype)


def int8_products(
    x: Tensor,
    x_scale: Tensor,
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    dtype: torch.dtype,
    *,
    amax_in: str = "",
) -> list[Tensor]:
    """`int8_product` with each of several weights; with few tokens, several in one kernel."""
    tokens, inner = x.shape

    def few(features: int) -> Few | None:
        return int8_configuration(tokens, features, inner)

    def alone(weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        return int8_product(x, x_scale, weight, scale, bias, dtype, amax_in=amax_in)

    return eight_bit_products(x, x_scale, weights, scales, biases, dtype, few, alone, amax_in=amax_in)
