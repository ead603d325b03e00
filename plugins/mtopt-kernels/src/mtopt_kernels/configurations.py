"""Configurations: sizes of tiles for the sizes of a product, as they were measured to be best."""

from __future__ import annotations

from typing import NamedTuple

FOUR_BIT_FUSED_TOKENS = 256
"""With more tokens than this, unpacking the weight once and multiplying in bf16 is as fast or faster. (H200: 127 us
both ways for 512 tokens, 14336 x 4096; the fused kernel's time grows with every 128 tokens.)"""

BLOCK_TOKENS = 64
"""Up to this many tokens, products by blocks are computed by our kernels; torch's takes the rest where it can.
(H200, 64 tokens: 1.0 to 1.6 times as fast as torch's; 4096 tokens: 0.7 times.)"""


FP8_MANY_TOKENS = 4096
"""From this many tokens on, cuBLAS is not the fastest in FP8. (H100, by tensor: CUTLASS with a scale for each row
takes 0.93 to 0.98 of its time.)"""


class FourBit(NamedTuple):
    """How `four_bit_linear_kernel` runs: features and tokens of a tile, programs that share it, chunks of a step,
    stages and warps."""

    high: int
    wide: int
    split: int
    step: int
    stages: int
    warps: int


class Vector(NamedTuple):
    """How `nvfp4_vector_kernel` runs: warps that share the columns of a tile, and chunks of them that each reads at
    once."""

    warps: int
    each: int


class Few(NamedTuple):
    """How `eight_bit_linear_kernel` runs: features and tokens of a tile, columns of a step, programs that share a
    tile, stages and warps."""

    high: int
    wide: int
    deep: int
    split: int
    stages: int
    warps: int


class Gemm(NamedTuple):
    """How `eight_bit_gemm_kernel` runs.

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


def four_bit_configuration(tokens: int, features: int, inner: int, *, is_int: bool) -> FourBit:
    """The fastest of those tried on an H200 and an H100: for 1, 16 and 64 tokens of four layers, for 512 of one.

    INT4 takes what NVFP4 does, but smaller tiles for many tokens: its sums of a chunk need registers of their own.
    One token with NVFP4 weights has a kernel of its own, so that one comes here with INT4 alone.
    """
    chunks = inner // 128
    if tokens <= 8:
        return FourBit(32, 8, _split(-(-features // 32), chunks, 32), 2, 3, 2)
    if tokens <= 16:
        return FourBit(32, 16, _split(-(-features // 32), chunks, 16), 1, 3, 1)
    if tokens <= 64:
        return FourBit(128, 64, _split_for(features, 128, inner, 264, most=8), 1, 3, 8)
    return FourBit(128 if is_int else 256, 128, 1, 1, 3, 8)


def nvfp4_vector_configuration(features: int, inner: int) -> Vector:
    """That of `nvfp4_vector_kernel`: as few warps a tile as keep 24 a multiprocessor of an H200 at work."""
    tiles, chunks, warps = -(-features // 16), inner // 128, 4
    while warps < 16 and tiles * warps < 3000 and warps * 2 <= chunks:
        warps *= 2
    return Vector(warps, 2 if warps == 4 and chunks % 8 == 0 else 1)


def fp8_configuration(tokens: int, features: int, inner: int, *, by_row: bool, by_block: bool) -> Few | None:
    """That of the kernel for few tokens; None where another is faster."""
    if by_block:
        few = tokens <= 16 or (tokens <= BLOCK_TOKENS and features < 8192)  # 64 tiles or fewer leave room to split
        wide = 16 if tokens <= 16 else 64
        return Few(64, wide, 128, _split_for(features, 64, inner, 264), 4, 4) if few else None
    if tokens <= 16:
        return Few(64, 16, 256, _split_for(features, 64, inner, 264), 4, 4)
    if tokens <= 64 and (by_row or features >= 8192):  # by tensor, with fewer, cuBLAS is faster
        return Few(64, 64, 128, _split_for(features, 64, inner, 264), 5, 4)
    return None


def fp8_much_work(tokens: int, features: int, inner: int) -> bool:
    """Whether a product in FP8 of `FP8_MANY_TOKENS` or more is so large that no kernel beats cuBLAS.

    (H100, at its limit of power: CUTLASS and our kernel 0.89 to 1.01 times as fast. Our kernel gains only where
    others let the card cool before.)
    """
    return inner > 4096 and tokens * features * inner >= 2**38


def int8_configuration(tokens: int, features: int, inner: int) -> Few | None:
    """That of `eight_bit_linear_kernel` for INT8, as for FP8 by row; None where the other kernel is faster."""
    return fp8_configuration(tokens, features, inner, by_row=True, by_block=False)


def int8_gemm_configuration(tokens: int, features: int) -> Gemm:
    """That of `eight_bit_gemm_kernel` for INT8, as for FP8."""
    return fp8_gemm_configuration(tokens, features, by_block=False)


def fp8_gemm_configuration(tokens: int, features: int, *, by_block: bool) -> Gemm:
    """That of `eight_bit_gemm_kernel`, for products that torch does not compute, or computes more slowly."""
    if by_block:
        return Gemm(64, 128, 128, 8, 1, 4, 4, 2, False)
    if tokens * features <= 132 * 128 * 256:  # one tile a multiprocessor or less
        return Gemm(128, 128, 128, 8, 1, 5, 8, 1, True)
    return Gemm(128, 256, 128, 16 if features < 8192 else 8, 2, 4, 8, 1, True)


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
