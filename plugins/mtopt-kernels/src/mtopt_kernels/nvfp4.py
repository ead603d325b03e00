"""Products with NVFP4 weights: which kernel, and on how many programs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtopt_kernels.configurations import NVFP4_FUSED_TOKENS, nvfp4_configuration
from mtopt_kernels.kernels.nvfp4_linear import nvfp4_linear_kernel, nvfp4_unpack_kernel
from mtopt_kernels.kernels.nvfp4_scaled import nvfp4_scaled_kernel
from mtopt_kernels.parts import counters, room_for_parts
from mtopt_kernels.prepack import CHUNK
from mtopt_kernels.sizes import cdiv
from mtopt_kernels.start import start

UNPACK_TILES = 4
EARLY = True


def nvfp4_product(
    x: Tensor, words: Tensor, scale_bytes: Tensor, scale_2: Tensor, bias: Tensor | None, features: int
) -> Tensor:
    """x [tokens, inner] · weightᵀ with a bias; the weight as `prepack_nvfp4` lays it out."""
    tokens, chunks = x.shape[0], words.shape[0]
    if tokens > NVFP4_FUSED_TOKENS or x.dtype != torch.bfloat16:
        return F.linear(x, nvfp4_unpack(words, scale_bytes, scale_2, features, x.dtype), bias)
    out = torch.empty((tokens, features), dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    x = x if x.stride(1) == 1 else x.contiguous()
    how = nvfp4_configuration(tokens, features, chunks * CHUNK)
    feature_tiles, token_tiles = cdiv(features, how.high), cdiv(tokens, how.wide)
    start(
        nvfp4_linear_kernel,
        feature_tiles * token_tiles * how.split,
        x,
        words,
        scale_bytes,
        scale_2,
        bias,
        out,
        room_for_parts(x.device, feature_tiles * token_tiles * how.high * how.wide, how.split),
        counters(x.device),
        tokens,
        features,
        chunks,
        x.stride(0),
        words.shape[1],
        feature_tiles,
        cdiv(chunks, how.split * how.step),
        how.high,
        how.wide,
        how.split,
        bias is not None,
        how.step,
        how.stages,
        EARLY,
        warps=how.warps,
        early=EARLY,
    )
    return out


def nvfp4_unpack(words: Tensor, scale_bytes: Tensor, scale_2: Tensor, features: int, dtype: torch.dtype) -> Tensor:
    """The weight [features, inner] that `prepack_nvfp4` laid out."""
    chunks, tiles = words.shape[:2]
    out = torch.empty((features, chunks * CHUNK), dtype=dtype, device=words.device)
    start(
        nvfp4_unpack_kernel,
        cdiv(tiles, UNPACK_TILES) * chunks,
        words,
        scale_bytes,
        scale_2,
        out,
        features,
        chunks,
        tiles,
        UNPACK_TILES,
        warps=4,
    )
    return out


def nvfp4_scaled_product(
    x: Tensor,
    x_scale: Tensor,
    x_scale_2: Tensor,
    weight: Tensor,
    scale: Tensor,
    scale_2: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """x · weightᵀ with a bias, in `dtype`: both in NVFP4, as `QTensor` holds them.

    It was compiled and interpreted, never run on a card: none of sm_100 was to be had.
    """
    tokens, features, inner = x.shape[0], weight.shape[0], x.shape[1] * 2
    out = torch.empty((tokens, features), dtype=dtype, device=x.device)
    if not out.numel():
        return out
    high, wide, deep = 128, 128, 256
    feature_tiles = cdiv(features, wide)
    start(
        nvfp4_scaled_kernel,
        cdiv(tokens, high) * feature_tiles,
        x,
        x_scale.view(torch.uint8),
        x_scale_2,
        weight,
        scale.view(torch.uint8),
        scale_2,
        bias,
        out,
        tokens,
        features,
        inner,
        feature_tiles,
        cdiv(inner, deep),
        high,
        wide,
        deep,
        bias is not None,
        3,
        warps=4,
    )
    return out
