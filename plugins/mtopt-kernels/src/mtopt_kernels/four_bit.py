"""Products with weights of 4 bits, NVFP4 or INT4: which kernel, and on how many programs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtopt_kernels.configurations import FOUR_BIT_FUSED_TOKENS, four_bit_configuration
from mtopt_kernels.fp8 import fp8_product
from mtopt_kernels.kernels.four_bit_linear import four_bit_linear_kernel, four_bit_unpack_kernel
from mtopt_kernels.parts import counters, room_for_parts
from mtopt_kernels.prepack import CHUNK
from mtopt_kernels.sizes import cdiv
from mtopt_kernels.start import start

UNPACK_TILES = 4
EARLY = True


def four_bit_product(
    x: Tensor, words: Tensor, scales: Tensor, scale_2: Tensor | None, bias: Tensor | None, features: int
) -> Tensor:
    """x [tokens, inner] · weightᵀ with a bias; the weight as `prepack_nvfp4` or `prepack_int4` lays it out."""
    tokens, chunks = x.shape[0], words.shape[0]
    if tokens > FOUR_BIT_FUSED_TOKENS or x.dtype != torch.bfloat16:
        return F.linear(x, four_bit_unpack(words, scales, scale_2, features, x.dtype), bias)
    out = torch.empty((tokens, features), dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    x = x if x.stride(1) == 1 else x.contiguous()
    is_int = scales.dtype == torch.float32
    how = four_bit_configuration(tokens, features, chunks * CHUNK, is_int=is_int)
    feature_tiles, token_tiles = cdiv(features, how.high), cdiv(tokens, how.wide)
    start(
        four_bit_linear_kernel,
        feature_tiles * token_tiles * how.split,
        x,
        words,
        scales,
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
        is_int,
        bias is not None,
        how.step,
        how.stages,
        EARLY,
        warps=how.warps,
        early=EARLY,
    )
    return out


def four_bit_unpack(
    words: Tensor, scales: Tensor, scale_2: Tensor | None, features: int, dtype: torch.dtype
) -> Tensor:
    """The weight [features, inner] that was laid out; of NVFP4 without `scale_2`, codes times block scales."""
    chunks, tiles = words.shape[:2]
    out = torch.empty((features, chunks * CHUNK), dtype=dtype, device=words.device)
    start(
        four_bit_unpack_kernel,
        cdiv(tiles, UNPACK_TILES) * chunks,
        words,
        scales,
        scale_2,
        out,
        features,
        chunks,
        tiles,
        scales.dtype == torch.float32,
        UNPACK_TILES,
        warps=4,
    )
    return out


def nvfp4_fp8_product(
    codes: Tensor,
    x_scale: Tensor,
    words: Tensor,
    scale_bytes: Tensor,
    scale_2: Tensor,
    bias: Tensor | None,
    features: int,
    dtype: torch.dtype,
) -> Tensor:
    """x · weightᵀ with a bias, in `dtype`, of e4m3 inputs and NVFP4 weights.

    With few tokens products are exact. With more, codes times their block scales are rounded to e4m3, so that the
    tensor cores multiply FP8: a weight moves by 2^-4 of itself at most. The format `nvfp4_fp8` keeps them in range.

    Args:
        codes: e4m3 [tokens, inner]; their scale is fp32 [1, 1].
        words, scale_bytes, scale_2: the weight, as `prepack_nvfp4` lays it out.
    """
    if codes.shape[0] <= FOUR_BIT_FUSED_TOKENS and dtype == torch.bfloat16:
        times = (scale_2 * x_scale).view(())
        return four_bit_product(codes.to(torch.bfloat16), words, scale_bytes, times, bias, features)
    weight = four_bit_unpack(words, scale_bytes, None, features, torch.float8_e4m3fn)
    return fp8_product(codes, x_scale, weight, scale_2.view(1, 1), bias, dtype)
