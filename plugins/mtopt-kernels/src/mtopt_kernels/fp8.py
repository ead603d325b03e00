"""Products of FP8 inputs with FP8 weights: which kernel, and on how many programs."""

from __future__ import annotations

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from mtopt_kernels.configurations import BLOCK_TOKENS, Few, Gemm, fp8_configuration, fp8_gemm_configuration
from mtopt_kernels.kernels.fp8_gemm import fp8_gemm_kernel
from mtopt_kernels.kernels.fp8_linear import fp8_linear_kernel
from mtopt_kernels.parts import counters, room_for_parts
from mtopt_kernels.sizes import cdiv
from mtopt_kernels.start import processors, start

BLOCK = 128
EARLY = True


def fp8_product(
    x: Tensor,
    x_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    *,
    by_block: bool = False,
) -> Tensor:
    """x · weightᵀ with the scales of both and a bias, by whichever kernel is fastest for these sizes.

    Args:
        x: e4m3 [tokens, inner]; its scales are fp32 [1, 1] or [tokens, 1].
        weight: e4m3 [features, inner]; its scales are fp32 [1, 1] or [features, 1].
        dtype: of the result [tokens, features].
        by_block: the scales are [tokens, inner / 128] and [features / 128, inner / 128] instead, rounded up.
    """
    (tokens, inner), features = x.shape, weight.shape[0]
    by_row = x_scale.numel() > 1 or scale.numel() > 1
    few = fp8_configuration(tokens, features, inner, by_row=by_row, by_block=by_block)
    aligned = inner % 16 == 0 and features % 16 == 0 and dtype in (torch.bfloat16, torch.float16)
    if few is not None or not aligned or not tokens:
        how = few or Few(64, 64, BLOCK, 1, 4, 4)
        return fp8_few_tokens(x, x_scale, weight, scale, bias, how, dtype, by_block=by_block)
    odd = (
        tokens % 4 or inner % BLOCK or features % BLOCK or inner == BLOCK
    )  # torch takes one block for a row's scale
    blocks_of_ours = by_block and (tokens <= BLOCK_TOKENS or odd)
    if dtype != torch.bfloat16 or blocks_of_ours:
        many = fp8_gemm_configuration(tokens, features, by_block=by_block)
        return fp8_gemm(x, x_scale, weight, scale, bias, many, dtype, by_block=by_block)
    if by_block:
        y = torch._scaled_mm(x, weight.t(), x_scale.t().contiguous().t(), scale.t(), out_dtype=dtype)
        return y if bias is None else y + bias
    x_scale = x_scale.expand(tokens, 1).contiguous() if by_row else x_scale.view(())
    scale = scale.expand(features, 1).contiguous().view(1, features) if by_row else scale.view(())
    return torch._scaled_mm(x, weight.t(), x_scale, scale, bias=bias, out_dtype=dtype, use_fast_accum=True)


def fp8_gemm(
    x: Tensor,
    x_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    how: Gemm,
    dtype: torch.dtype,
    *,
    by_block: bool,
) -> Tensor:
    """`fp8_product` by the kernel for many tokens; inner and features are multiples of 16, dtype has 16 bits."""
    (tokens, inner), features = x.shape, weight.shape[0]
    out = torch.empty((tokens, features), dtype=dtype, device=x.device)
    tiles = cdiv(tokens, how.high) * cdiv(features, how.wide)
    programs = min(tiles, processors(x.device) * how.together)
    start(
        fp8_gemm_kernel,
        programs,
        TensorDescriptor(x, (tokens, inner), (inner, 1), [how.high, how.deep]),
        TensorDescriptor(weight, (features, inner), (inner, 1), [how.wide, how.deep]),
        TensorDescriptor(out, (tokens, features), (features, 1), [how.high, how.wide // how.parts]),
        x_scale,
        scale,
        bias,
        tokens,
        features,
        cdiv(inner, how.deep),
        programs,
        how.high,
        how.wide,
        how.deep,
        how.group,
        x_scale.numel() > 1,
        scale.numel() > 1,
        by_block,
        bias is not None,
        how.parts,
        how.stages,
        how.flatten,
        warps=how.warps,
    )
    return out


def fp8_few_tokens(
    x: Tensor,
    x_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    how: Few,
    dtype: torch.dtype,
    *,
    by_block: bool,
) -> Tensor:
    """`fp8_product` by the kernel for few tokens, which takes all sizes."""
    (tokens, inner), features = x.shape, weight.shape[0]
    out = torch.empty((tokens, features), dtype=dtype, device=x.device)
    if not out.numel():
        return out
    high, wide, deep, split, stages, warps = how
    feature_tiles, token_tiles = cdiv(features, high), cdiv(tokens, wide)
    start(
        fp8_linear_kernel,
        feature_tiles * token_tiles * split,
        x,
        x_scale,
        weight,
        scale,
        bias,
        out,
        room_for_parts(x.device, feature_tiles * token_tiles * high * wide, split),
        counters(x.device),
        tokens,
        features,
        inner,
        feature_tiles,
        cdiv(inner, deep * split),
        high,
        wide,
        deep,
        split,
        x_scale.numel() > 1,
        scale.numel() > 1,
        by_block,
        bias is not None,
        stages,
        EARLY,
        warps=warps,
        early=EARLY,
    )
    return out
