"""Products with stored weights: which kernel computes one, and on how many programs."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mtopt_kernels.configurations import CUTLASS_TOKENS, NVFP4_FUSED_TOKENS, fp8_configuration, nvfp4_configuration
from mtopt_kernels.kernels.fp8_linear import fp8_linear_kernel
from mtopt_kernels.kernels.nvfp4_linear import nvfp4_linear_kernel, nvfp4_unpack_kernel
from mtopt_kernels.launch import dequantize, quantize
from mtopt_kernels.prepack import CHUNK
from mtopt_kernels.sizes import cdiv
from mtopt_kernels.start import start

UNPACK_ROWS = 64
COUNTERS = 2**16
"""Tiles of a product whose inner dimension is split among programs; each has a counter."""


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
    tokens, chunks = x.shape[0], words.shape[0]
    out = torch.empty((tokens, features), dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    if tokens > NVFP4_FUSED_TOKENS or x.dtype != torch.bfloat16:
        return F.linear(x, nvfp4_unpack(words, scale_bytes, scale_2, x.dtype), bias)
    x = x if x.stride(1) == 1 else x.contiguous()
    high, wide, split, stages, warps = nvfp4_configuration(tokens, features, chunks * CHUNK)
    feature_tiles, token_tiles = cdiv(features, high), cdiv(tokens, wide)
    partial = _partial(x, feature_tiles * token_tiles * high * wide, split)
    start(
        nvfp4_linear_kernel,
        feature_tiles * token_tiles * split,
        x,
        words,
        scale_bytes,
        scale_2,
        bias,
        out,
        partial,
        counters(x.device),
        tokens,
        features,
        chunks,
        x.stride(0),
        feature_tiles,
        high,
        wide,
        split,
        cdiv(chunks, split),
        bias is not None,
        stages,
        warps=warps,
    )
    return out


def nvfp4_unpack(words: Tensor, scale_bytes: Tensor, scale_2: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight [features, inner] that `prepack_nvfp4` laid out."""
    chunks, features, _ = words.shape
    out = torch.empty((features, chunks * CHUNK), dtype=dtype, device=words.device)
    start(
        nvfp4_unpack_kernel,
        cdiv(features, UNPACK_ROWS) * chunks,
        words,
        scale_bytes,
        scale_2,
        out,
        features,
        chunks,
        UNPACK_ROWS,
        warps=4,
    )
    return out


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
    """See `mtcore.backends.reference.linear`; e4m3 for both factors, a scale a tensor or row for each."""
    codes, x_scale, _ = quantize(x, input_amax, None, input_format)
    return fp8_product(codes, x_scale, qdata, scale, bias, x.dtype)


def fp8_product(
    x: Tensor, x_scale: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """x · weightᵀ with the scales of both and a bias, by whichever kernel is fastest for these sizes.

    Args:
        x: e4m3 [tokens, inner]; its scales are fp32 [1, 1] or [tokens, 1].
        weight: e4m3 [features, inner]; its scales are fp32 [1, 1] or [features, 1].
        dtype: of the result [tokens, features].
    """
    (tokens, inner), features = x.shape, weight.shape[0]
    by_row = x_scale.numel() > 1 or scale.numel() > 1
    choice = fp8_configuration(tokens, features, inner, by_row=by_row)
    if choice is None and inner % 16 == 0 and features % 16 == 0 and dtype == torch.bfloat16:
        by_row = by_row or tokens >= CUTLASS_TOKENS
        x_scale = x_scale.expand(tokens, 1).contiguous() if by_row else x_scale.view(())
        scale = scale.expand(features, 1).contiguous().view(1, features) if by_row else scale.view(())
        return torch._scaled_mm(x, weight.t(), x_scale, scale, bias=bias, out_dtype=dtype, use_fast_accum=True)
    high, wide, deep, split, stages, warps = choice or (128, 64, 128, 1, 4, 4)
    out = torch.empty((tokens, features), dtype=dtype, device=x.device)
    if not out.numel():
        return out
    feature_tiles, token_tiles = cdiv(features, high), cdiv(tokens, wide)
    partial = _partial(x, feature_tiles * token_tiles * high * wide, split)
    start(
        fp8_linear_kernel,
        feature_tiles * token_tiles * split,
        x,
        x_scale,
        weight,
        scale,
        bias,
        out,
        partial,
        counters(x.device),
        tokens,
        features,
        inner,
        feature_tiles,
        high,
        wide,
        deep,
        split,
        cdiv(inner, deep * split),
        x_scale.numel() > 1,
        scale.numel() > 1,
        bias is not None,
        stages,
        warps=warps,
    )
    return out


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


@cache
def counters(device: torch.device) -> Tensor:
    """Zeros that every kernel leaves zero; shared by all kernels of one stream."""
    return torch.zeros(COUNTERS, dtype=torch.int32, device=device)


def _partial(x: Tensor, elements: int, split: int) -> Tensor:
    """Room for the sums of all parts."""
    return torch.empty(elements * split if split > 1 else 1, dtype=torch.float32, device=x.device)
