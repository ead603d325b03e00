"""Products of NVFP4 inputs with NVFP4 weights."""

from __future__ import annotations

import torch
from torch import Tensor

from mtopt_kernels.kernels.nvfp4_scaled import nvfp4_scaled_kernel
from mtopt_kernels.sizes import cdiv
from mtopt_kernels.start import start


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
