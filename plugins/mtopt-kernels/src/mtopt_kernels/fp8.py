"""Products of FP8 inputs with FP8 weights: which kernel, ours or torch's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtopt_kernels.configurations import (
    BLOCK_TOKENS,
    FP8_MANY_TOKENS,
    Few,
    fp8_configuration,
    fp8_gemm_configuration,
    fp8_much_work,
)
from mtopt_kernels.eight_bit import eight_bit_few_tokens, eight_bit_gemm, eight_bit_products, scale_from

BLOCK = 128


def fp8_product(
    x: Tensor,
    x_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    *,
    by_block: bool = False,
    amax_in: str = "",
) -> Tensor:
    """x · weightᵀ with the scales of both and a bias, by whichever kernel is fastest for these sizes.

    Args:
        x: e4m3 [tokens, inner]; its scales are fp32 [1, 1] or [tokens, 1].
        weight: e4m3 [features, inner]; its scales are fp32 [1, 1] or [features, 1].
        dtype: of the result [tokens, features].
        by_block: the scales are [tokens, inner / 128] and [features / 128, inner / 128] instead, rounded up.
        amax_in: as for `eight_bit_few_tokens`.
    """
    (tokens, inner), features = x.shape, weight.shape[0]
    by = "block" if by_block else "row" if x_scale.numel() > 1 or scale.numel() > 1 else "tensor"
    way = fp8_way(tokens, features, inner, dtype, by)
    if way == "few":
        few = fp8_configuration(tokens, features, inner, by_row=by == "row", by_block=by_block)
        how = few or Few(64, 64, BLOCK, 1, 4, 4)
        one = [weight], [scale], [bias]
        return eight_bit_few_tokens(x, x_scale, *one, how, dtype, by_block=by_block, amax_in=amax_in)[0]
    x_scale = scale_from(x_scale, amax_in) if amax_in else x_scale
    if way == "many":
        many = fp8_gemm_configuration(tokens, features, by_block=by_block)
        return eight_bit_gemm(x, x_scale, weight, scale, bias, many, dtype, by_block=by_block)
    if by == "block":
        y = torch._scaled_mm(x, weight.t(), x_scale.t().contiguous().t(), scale.t(), out_dtype=dtype)
        return y if bias is None else (y + bias).to(dtype)
    if way == "torch by row":
        if x_scale.numel() < tokens or scale.numel() < features:  # in one kernel
            both = torch.cat((scale.expand(features, 1), x_scale.expand(tokens, 1)))
            scale, x_scale = both[:features], both[features:]
        scale = scale.view(1, features)
    else:
        x_scale, scale = x_scale.view(()), scale.view(())
    return torch._scaled_mm(x, weight.t(), x_scale, scale, bias=bias, out_dtype=dtype, use_fast_accum=True)


def fp8_products(
    x: Tensor,
    x_scale: Tensor,
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    dtype: torch.dtype,
    *,
    by_block: bool = False,
    amax_in: str = "",
) -> list[Tensor]:
    """`fp8_product` with each of several weights; with few tokens, several in one kernel."""
    tokens, inner = x.shape
    by_row = not by_block and (x_scale.numel() > 1 or scales[0].numel() > 1)

    def few(features: int) -> Few | None:
        return fp8_configuration(tokens, features, inner, by_row=by_row, by_block=by_block)

    def alone(weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        return fp8_product(x, x_scale, weight, scale, bias, dtype, by_block=by_block, amax_in=amax_in)

    each = weights, scales, biases
    return eight_bit_products(x, x_scale, *each, dtype, few, alone, by_block=by_block, amax_in=amax_in)


def fp8_way(tokens: int, features: int, inner: int, dtype: torch.dtype, by: str) -> str:
    """What computes a product with scales `by` "tensor", "row" or "block", as it was measured to be fastest.

    Returns:
        "few" or "many": the kernel of ours for few tokens, which takes all sizes, or that for many. "torch": its
        product with these scales; "torch by row": that with a scale for each row.
    """
    few = fp8_configuration(tokens, features, inner, by_row=by == "row", by_block=by == "block")
    for_many = inner % 16 == 0 and features % 16 == 0 and dtype in (torch.bfloat16, torch.float16)
    if few is not None or not tokens or not for_many:
        return "few"
    if dtype != torch.bfloat16:
        return "many"
    if by == "block":
        # Of blocks torch takes whole ones alone, and one along a row for a scale of the row; of numbers of them
        # along a row that are no multiple of 4, it takes other scales of the weight (seen on an H100).
        whole = not (tokens % 4 or inner % (4 * BLOCK) or features % BLOCK)
        return "torch" if tokens > BLOCK_TOKENS and whole else "many"
    by_tensor = by == "tensor" and (tokens < FP8_MANY_TOKENS or fp8_much_work(tokens, features, inner))
    return "torch" if by_tensor else "torch by row"
