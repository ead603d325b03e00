"""Products with weights of 4 bits, NVFP4 or INT4: which kernel, and on how many programs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mtopt_kernels.configurations import (
    FOUR_BIT_FUSED_TOKENS,
    four_bit_configuration,
    nvfp4_vector_configuration,
)
from mtopt_kernels.fp8 import fp8_product
from mtopt_kernels.kernels.four_bit_linear import four_bit_linear_kernel, four_bit_unpack_kernel
from mtopt_kernels.nvfp4_vector import nvfp4_vector
from mtopt_kernels.parts import counters, room_for_parts
from mtopt_kernels.prepack import CHUNK
from mtopt_kernels.replay import replayed
from mtopt_kernels.several import filled, tiles_of, together
from mtopt_kernels.sizes import cdiv
from mtopt_kernels.start import start, starts_early

FP8 = torch.float8_e4m3fn
UNPACK_TILES = 4
DECODED = torch.bfloat16, torch.float16
"""The dtypes to which codes are decoded inside a product."""


def four_bit_products(
    x: Tensor,
    words: Sequence[Tensor],
    scales: Sequence[Tensor],
    scale_2: Sequence[Tensor | None],
    biases: Sequence[Tensor | None],
    features: Sequence[int],
) -> list[Tensor]:
    """x [tokens, inner] · weightᵀ with a bias, for each of several weights; with few tokens, several in one kernel.

    That kernel decodes to x's dtype, bf16 or fp16: for another one, or many tokens, a weight is unpacked first.

    Args:
        words, scales, scale_2: the weights, as `prepack_nvfp4` or `prepack_int4` lays them out.
    """
    if x.shape[0] > FOUR_BIT_FUSED_TOKENS or x.dtype not in DECODED:
        each = zip(words, scales, scale_2, biases, features, strict=True)
        return [F.linear(x, four_bit_unpack(w, s, o, width, x.dtype), b) for w, s, o, b, width in each]
    x = x if x.stride(1) == 1 else x.contiguous()
    done: list[Tensor] = []
    for some in together(biases, scales):
        outers, mine = [scale_2[i] for i in some], [biases[i] for i in some]
        done += _few_tokens(
            x, [words[i] for i in some], [scales[i] for i in some], outers, mine, [features[i] for i in some]
        )
    return done


def _few_tokens(
    x: Tensor,
    words: Sequence[Tensor],
    scales: Sequence[Tensor],
    scale_2: Sequence[Tensor | None],
    biases: Sequence[Tensor | None],
    features: Sequence[int],
) -> list[Tensor]:
    """In one kernel."""
    tokens, chunks = x.shape[0], words[0].shape[0]
    is_int = scales[0].dtype == torch.float32
    if tokens == 1 and x.dtype == torch.bfloat16 and not is_int and any(features):
        vector = nvfp4_vector_configuration(sum(features), chunks * CHUNK)
        return nvfp4_vector(x, words, scales, scale_2, biases, features, vector)
    outs = [torch.empty((tokens, width), dtype=x.dtype, device=x.device) for width in features]
    if not tokens or not any(features):
        return outs
    how = four_bit_configuration(tokens, sum(features), chunks * CHUNK, is_int=is_int)
    starts, feature_tiles = tiles_of(features, how.high)
    token_tiles, early = cdiv(tokens, how.wide), starts_early()
    start(
        four_bit_linear_kernel,
        feature_tiles * token_tiles * how.split,
        x,
        *filled(words),
        *filled(scales),
        *filled(scale_2),
        *filled(biases),
        *filled(outs),
        *filled(features, 0),
        *starts,
        room_for_parts(x.device, feature_tiles * token_tiles * how.high * how.wide, how.split),
        counters(x.device),
        tokens,
        chunks,
        x.stride(0),
        feature_tiles,
        cdiv(chunks, how.split * how.step),
        len(words),
        how.high,
        how.wide,
        how.split,
        is_int,
        biases[0] is not None,
        how.step,
        how.stages,
        early,
        warps=how.warps,
        early=early,
    )
    return outs


@replayed
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


def nvfp4_fp8_products(
    codes: Tensor,
    x_scale: Tensor,
    words: Sequence[Tensor],
    scale_bytes: Sequence[Tensor],
    scale_2: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    features: Sequence[int],
    dtype: torch.dtype,
) -> list[Tensor]:
    """x · weightᵀ with a bias, in `dtype`, of e4m3 inputs and each of several NVFP4 weights.

    With few tokens products are exact. With more, codes times their block scales are rounded to e4m3, so that the
    tensor cores multiply FP8: a weight moves by 2^-4 of itself at most. The format `nvfp4_fp8` keeps them in range.

    Args:
        codes: e4m3 [tokens, inner]; their scale is fp32 [1, 1].
        words, scale_bytes, scale_2: the weights, as `prepack_nvfp4` lays them out.
    """
    if codes.shape[0] <= FOUR_BIT_FUSED_TOKENS and dtype in DECODED:
        times = [(outer * x_scale).view(()) for outer in scale_2]
        return four_bit_products(codes.to(dtype), words, scale_bytes, times, biases, features)
    each = zip(words, scale_bytes, scale_2, biases, features, strict=True)
    return [
        fp8_product(codes, x_scale, four_bit_unpack(w, s, None, width, FP8), outer.view(1, 1), b, dtype)
        for w, s, outer, b, width in each
    ]
