"""Configurations: sizes of tiles for the sizes of a product, as they were measured to be best."""

from __future__ import annotations

from typing import NamedTuple

NVFP4_FUSED_TOKENS = 256
"""With more tokens than this, unpacking the weight once and multiplying in bf16 is as fast or faster. (H200: 127 us
both ways for 512 tokens, 14336 x 4096; the fused kernel's time grows with every 128 tokens.)"""

BLOCK_TOKENS = 64
"""Up to this many tokens, products by blocks are computed by our kernels; torch's takes the rest where it can.
(H200, 64 tokens: 1.0 to 1.6 times as fast as torch's; 4096 tokens: 0.7 times.)"""


class Nvfp4(NamedTuple):
    """How `nvfp4_linear_kernel` runs: features and tokens of a tile, programs that share it, chunks of a step,
    stages and warps."""

    high: int
    wide: int
    split: int
    step: int
    stages: int
    warps: int


class Few(NamedTuple):
    """How `fp8_linear_kernel` runs: features and tokens of a tile, columns of a step, programs that share a tile,
    stages and warps."""

    high: int
    wide: int
    deep: int
    split: int
    stages: int
    warps: int


class Gemm(NamedTuple):
    """How `fp8_gemm_kernel` runs.

    Attributes:
        high, wide, deep: tokens and features of a tile, columns of a step.
        group: rows of tiles that are walked together.
        parts: in which a tile is written.
        stages, warps: of a program; `together` programs a multiprocessor.
        flatten: whether the loops over tiles and steps are one.
    """

    high: int
    wide: int
    deep: int
    group: int
    parts: int
    stages: int
    warps: int
    together: int
    flatten: bool


def nvfp4_configuration(tokens: int, features: int, inner: int) -> Nvfp4:
    """The fastest of those tried on an H200: for 1, 16 and 64 tokens of four layers, for 512 of one."""
    chunks = inner // 128
    if tokens <= 8:
        return Nvfp4(32, 8, _split(-(-features // 32), chunks, 32), 2, 3, 2)
    if tokens <= 16:
        return Nvfp4(32, 16, _split(-(-features // 32), chunks, 16), 1, 3, 1)
    if tokens <= 64:
        return Nvfp4(128, 64, _split_for(features, 128, inner, 264, most=8), 1, 3, 8)
    return Nvfp4(256, 128, 1, 1, 3, 8)


def fp8_configuration(tokens: int, features: int, inner: int, *, by_row: bool, by_block: bool) -> Few | None:
    """That of `fp8_linear_kernel`; None where another kernel is faster."""
    if by_block:
        few = tokens <= 16 or (tokens <= BLOCK_TOKENS and features < 8192)  # 64 tiles or fewer leave room to split
        wide = 16 if tokens <= 16 else 64
        return Few(64, wide, 128, _split_for(features, 64, inner, 264), 4, 4) if few else None
    if tokens <= 16:
        return Few(64, 16, 256, _split_for(features, 64, inner, 128), 4, 4)
    if by_row and tokens <= 64:
        return Few(128, 64, 128, _split_for(features, 128, inner, 128), 4, 4)
    return None


def fp8_gemm_configuration(tokens: int, features: int, *, by_block: bool) -> Gemm:
    """That of `fp8_gemm_kernel`, for products that torch does not compute; its own are as fast or faster."""
    if by_block:
        return Gemm(64, 128, 128, 8, 1, 4, 4, 2, False)
    if tokens * features <= 132 * 128 * 256:  # one tile a multiprocessor or less
        return Gemm(128, 128, 128, 8, 1, 4, 8, 1, True)
    return Gemm(128, 256, 128, 8, 2, 4, 8, 1, True)


def _split(tiles: int, chunks: int, longest: int) -> int:
    """How many programs share a tile: so that 448 run and each has `longest` chunks at most, but 8 at least."""
    split = 1
    while (chunks > longest * split or tiles * split < 448) and chunks >= split * 16:
        split *= 2
    return split


def _split_for(features: int, high: int, inner: int, wanted: int, most: int = 4) -> int:
    """How many programs share a tile, so that about `wanted` run, each with 512 columns at least."""
    tiles = -(-features // high)
    split = 1
    while split < most and tiles * split * 2 <= wanted and inner // (split * 2) >= 512:
        split *= 2
    return split
