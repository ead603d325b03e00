"""Products of NVFP4 weights with one token: starting their kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtopt_kernels.configurations import Vector
from mtopt_kernels.kernels.nvfp4_vector import nvfp4_vector_kernel
from mtopt_kernels.prepack import TILE
from mtopt_kernels.several import filled, tiles_of
from mtopt_kernels.sizes import cdiv
from mtopt_kernels.start import start, starts_early


def nvfp4_vector(
    x: Tensor,
    words: Sequence[Tensor],
    scale_bytes: Sequence[Tensor],
    scale_2: Sequence[Tensor | None],
    biases: Sequence[Tensor | None],
    features: Sequence[int],
    how: Vector,
) -> list[Tensor]:
    """x [1, inner] in bf16 · weightᵀ with a bias, for each of up to `MOST_TOGETHER` weights, [1, features] each.

    Args:
        x: below 2^64 in magnitude: from there on it counts as infinite.
        words, scale_bytes, scale_2: the weights, as `prepack_nvfp4` lays them out; none of `scale_2` is None.
        biases: of all of them or of none.
        how: the configuration.
    """
    outs = [torch.empty((1, width), dtype=x.dtype, device=x.device) for width in features]
    starts, programs = tiles_of(features, TILE)
    chunks, early = words[0].shape[0], starts_early()
    start(
        nvfp4_vector_kernel,
        programs,
        x if x.data_ptr() % 4 == 0 else x.clone(),  # it reads pairs
        *filled(words),
        *filled(scale_bytes),
        *filled(scale_2),
        *filled(biases),
        *filled(outs),
        *filled(features, 0),
        *starts,
        chunks,
        cdiv(chunks, how.warps * how.each),
        len(words),
        how.warps,
        how.each,
        biases[0] is not None,
        early,
        warps=how.warps,
        early=early,
    )
    return outs
