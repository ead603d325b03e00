"""Prepacking: weights laid out once, when a model is compressed, so that a product reads them as it needs them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtcore.errors import FormatError

CHUNK = 128
"""Columns that are decoded together: eight scale blocks."""
TILE = 16
"""Rows that are decoded together: those of one product of a tensor core."""
NVFP4_PLACES = (
    ((6, 0), (7, 0), (8, 0), (15, 0)),
    ((2, 0), (3, 0), (4, 0), (11, 0)),
    ((12, 1), (13, 1), (14, 1), (5, 0)),
    ((0, 0), (1, 0), (10, 0), (9, 0)),
)
"""Where the bits of four codes lie in a half word, lowest first, and which lie in the other half. A decoder brings
each code to the places of the first with one shift or rotation, and one bit of the last with a second shift."""
INT4_PLACES = tuple(tuple((4 * code + bit, 0) for bit in range(4)) for code in range(4))
"""The same where a code is brought to the lowest places."""


def prepack_nvfp4(qdata: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The words and scale bytes that `four_bit_linear_kernel` reads, in the order in which tensor cores want them.

    Thread 4 g + t of a warp multiplies the columns 2 t, 2 t + 1, 2 t + 8 and 2 t + 9 of every block of 16 and the
    rows g and g + 8 of a tile, so these lie side by side.

    Args:
        qdata: uint8 [rows, cols / 2], two codes a byte; cols is a multiple of 128.
        scale: float8_e4m3fn [rows, cols / 16], not negative.

    Returns:
        int32 [chunks, tiles, 2, 8, 4, 4] and int32 [chunks, tiles, 8, 4]; rows are filled up with zeros. Word
        [chunk, tile, upper or lower row, g, t, 2 h + i] has in its low half the codes of column 2 t + 8 h of the
        blocks 4 i to 4 i + 3, in its high half those of the column beside it. Scale word [chunk, tile, g, 2 r + i]
        has a byte for each of these blocks and row g + 8 r: eeeeemmm, that is 2^(e - 15) (1 + m / 8). It is e4m3
        without its sign and with one more exponent bit, so that no value is subnormal.

    Raises:
        FormatError: a scale is NaN (its block was not finite) or negative.
    """
    if not bool((scale.float() >= 0).all()):  # not true for NaN
        raise FormatError("a weight in nvfp4 has block scales that are NaN or negative; quantize finite weights")
    rows, half = qdata.shape
    chunks, tiles = half * 2 // CHUNK, -(-rows // TILE)
    known = (scale.float() != 0).view(rows, chunks, 8, 1)  # a scale of 0 has no byte; its block is 0
    # [tile, lower row, g, chunk, 8 bytes] -> [chunk, tile, g, lower row, 8 bytes]
    bytes_ = F.pad(_scale_bytes(scale), (0, 0, 0, tiles * TILE - rows))
    bytes_ = bytes_.view(tiles, 2, 8, chunks, 8).permute(3, 0, 2, 1, 4).contiguous()
    return _words(_codes(qdata) * known, NVFP4_PLACES), bytes_.view(torch.int32).view(chunks, tiles, 8, 4)


def prepack_int4(qdata: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The words and scales of a weight in INT4 with one scale for 128 columns.

    Args:
        qdata: uint8 [rows, cols / 2], two codes a byte; cols is a multiple of 128.
        scale: fp32 [rows, cols / 128].

    Returns:
        int32 as `prepack_nvfp4` lays them out, where a group of 16 columns takes the place of a scale block and a
        code is 8 more than its value; and fp32 [chunks, 16 tiles]. Rows are filled up with scales of zero.
    """
    filled = F.pad(scale, (0, 0, 0, -qdata.shape[0] % TILE))
    return _words(_codes(qdata) ^ 8, INT4_PLACES), filled.t().contiguous()


def _codes(qdata: Tensor) -> Tensor:
    """uint8 [rows, chunks, 8, 16], a code each."""
    rows, half = qdata.shape
    return torch.stack((qdata & 15, qdata >> 4), dim=-1).view(rows, half * 2 // CHUNK, 8, 16)


def _words(codes: Tensor, places: tuple[tuple[tuple[int, int], ...], ...]) -> Tensor:
    """int32 [chunks, tiles, 2, 8, 4, 4] of codes [rows, chunks, 8, 16]; rows are filled up with zeros."""
    rows, chunks = codes.shape[:2]
    tiles = -(-rows // TILE)
    codes = F.pad(codes, (0, 0, 0, 0, 0, 0, 0, tiles * TILE - rows))
    # [tile, lower row, g, chunk, i, place, h, t, side] -> [chunk, tile, lower row, g, t, h, i, place, side]
    codes = codes.view(tiles, 2, 8, chunks, 2, 4, 2, 4, 2).permute(3, 0, 1, 2, 7, 6, 4, 5, 8)
    words = torch.zeros(codes.shape[:-2], dtype=torch.int64, device=codes.device)
    for place, bits in enumerate(places):
        for side in range(2):
            code = codes[..., place, side].to(torch.int64)
            for bit, (at, other) in enumerate(bits):
                words |= ((code >> bit) & 1) << (at + 16 * (side ^ other))
    return _as_int32(words).reshape(chunks, tiles, 2, 8, 4, 4)


def _scale_bytes(scale: Tensor) -> Tensor:
    known = torch.where(scale.float() == 0, 1.0, scale.float())
    mantissa, exponent = torch.frexp(known)  # value = mantissa · 2^exponent, mantissa in [0.5, 1)
    return ((exponent + 14) * 8 + (mantissa * 16 - 8)).to(torch.uint8)


def _as_int32(words: Tensor) -> Tensor:
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
