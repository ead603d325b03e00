"""Configurations: sizes of tiles for the sizes of a product, as they were measured to be best."""

from __future__ import annotations

NVFP4_FUSED_TOKENS = 128
"""With more tokens than this, unpacking the weight once and multiplying in bf16 is faster. (H200: 31.9 us fused and
33.9 + 49.9 us apart for 64 tokens, 14336 x 4096; the fused kernel's time grows with every 64 tokens.)"""

CUTLASS_TOKENS = 4096
"""From this many tokens on torch's product by row (CUTLASS) is faster than its product by tensor (cuBLAS), also
with one scale for all rows: 1.02 to 1.13 times on an H200 for 4096 and 8192 tokens."""


def nvfp4_configuration(tokens: int, features: int, inner: int) -> tuple[int, int, int, int, int]:
    """(features of a tile, its tokens, programs that share it, stages, warps) of `nvfp4_linear_kernel`."""
    if tokens <= 16:
        return 64, 16, _split(features, 64, inner, 896), 4, 2
    return 128, 64, _split(features, 128, inner, 264), 3, 4


def fp8_configuration(
    tokens: int, features: int, inner: int, *, by_row: bool
) -> tuple[int, int, int, int, int, int] | None:
    """(features of a tile, its tokens, columns of a step, programs that share it, stages, warps) of
    `fp8_linear_kernel`; None where cuBLAS or CUTLASS, behind torch, are faster."""
    if tokens <= 16:
        return 64, 16, 256, _split(features, 64, inner, 128), 4, 4
    if by_row and tokens <= 64:
        return 128, 64, 128, _split(features, 128, inner, 128), 4, 4
    return None


def _split(features: int, high: int, inner: int, wanted: int) -> int:
    """How many programs share a tile, so that about `wanted` run, each with 512 columns at least."""
    tiles = -(-features // high)
    split = 1
    while split < 8 and tiles * split * 2 <= wanted and inner // (split * 2) >= 512:
        split *= 2
    return split
