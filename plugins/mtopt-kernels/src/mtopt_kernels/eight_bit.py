"""Products of two factors in 8 bits, FP8 or INT8: starting the kernel for few tokens, and the one for many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from mtopt_kernels.configurations import Few, Gemm
from mtopt_kernels.constants import known
from mtopt_kernels.kernels.eight_bit_gemm import eight_bit_gemm_kernel
from mtopt_kernels.kernels.eight_bit_linear import eight_bit_linear_kernel
from mtopt_kernels.launch import quantize
from mtopt_kernels.parts import counters, room_for_parts
from mtopt_kernels.several import filled, tiles_of, together
from mtopt_kernels.sizes import cdiv
from mtopt_kernels.start import processors, start, starts_early


def eight_bit_gemm(
    x: Tensor,
    x_scale: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    how: Gemm,
    dtype: torch.dtype,
    *,
    by_block: bool = False,
) -> Tensor:
    """x · weightᵀ with the scales of both and a bias, by the kernel for many tokens.

    Args:
        x: codes [tokens, inner], e4m3 or int8; its scales are fp32 [1, 1] or [tokens, 1].
        weight: codes [features, inner] of the same dtype; its scales are fp32 [1, 1] or [features, 1].
        how: the configuration.
        dtype: of the result [tokens, features], of 16 bits. Inner and features are multiples of 16.
        by_block: the scales are [tokens, inner / 128] and [features / 128, inner / 128] instead, rounded up.
    """
    (tokens, inner), features = x.shape, weight.shape[0]
    out = torch.empty((tokens, features), dtype=dtype, device=x.device)
    tiles = cdiv(tokens, how.high) * cdiv(features, how.wide)
    programs = min(tiles, processors(x.device) * how.together)
    start(
        eight_bit_gemm_kernel,
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
        x.dtype == torch.int8,
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


def eight_bit_few_tokens(
    x: Tensor,
    x_scale: Tensor,
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    how: Few,
    dtype: torch.dtype,
    *,
    by_block: bool = False,
    amax_in: str = "",
) -> list[Tensor]:
    """The same for each of a few weights by the kernel for few tokens, which takes all sizes and any float dtype.

    Either all of them have biases or none has, and scales are all by tensor or all by row. `amax_in`: the key of
    x's format where `x_scale` is not its scale but the calibrated magnitude of the tensor, one number.
    """
    tokens, inner = x.shape
    features = [weight.shape[0] for weight in weights]
    outs = [torch.empty((tokens, width), dtype=dtype, device=x.device) for width in features]
    if not tokens or not any(features):
        return outs
    high, wide, deep, split, stages, warps = how
    starts, feature_tiles = tiles_of(features, high)
    token_tiles, early = cdiv(tokens, wide), starts_early()
    start(
        eight_bit_linear_kernel,
        feature_tiles * token_tiles * split,
        x,
        x_scale,
        *filled(weights),
        *filled(scales),
        *filled(biases),
        *filled(outs),
        *filled(features, 0),
        *starts,
        room_for_parts(x.device, feature_tiles * token_tiles * high * wide, split),
        counters(x.device),
        tokens,
        inner,
        feature_tiles,
        cdiv(inner, deep * split),
        len(weights),
        high,
        wide,
        deep,
        split,
        x.dtype == torch.int8,
        x_scale.numel() > 1,
        scales[0].numel() > 1,
        by_block,
        biases[0] is not None,
        known(amax_in).constants if amax_in else None,
        stages,
        early,
        warps=warps,
        early=early,
    )
    return outs


def eight_bit_products(
    x: Tensor,
    x_scale: Tensor,
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    dtype: torch.dtype,
    few: Callable[[int], Few | None],
    alone: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    *,
    by_block: bool = False,
    amax_in: str = "",
) -> list[Tensor]:
    """The products with each of several weights; with few tokens, several in one kernel.

    Args:
        few: the configuration for so many features in all; None where the kernel for few tokens is not the one.
        alone: the product with one weight, from its codes, scales and bias.
    """
    done: list[Tensor] = []
    for some in together(biases, scales):
        mine = [weights[i] for i in some], [scales[i] for i in some], [biases[i] for i in some]
        how = few(sum(weight.shape[0] for weight in mine[0]))
        if how is not None and len(some) > 1:
            done += eight_bit_few_tokens(x, x_scale, *mine, how, dtype, by_block=by_block, amax_in=amax_in)
        else:
            done += [alone(*each) for each in zip(*mine, strict=True)]
    return done


def scale_from(amax: Tensor, amax_in: str) -> Tensor:
    """The scale, fp32 [1, 1], of a tensor with this calibrated magnitude: quantizing that number works it out."""
    amax = amax.view(1, 1)
    scale: Tensor = quantize(amax, amax, None, amax_in)[1]
    return scale
