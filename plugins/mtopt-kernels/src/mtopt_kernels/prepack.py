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
PLACES = (
    ((6, 0), (7, 0), (8, 0), (15, 0)),
    ((2, 0), (3, 0), (4, 0), (11, 0)),
    ((12, 1), (13, 1), (14, 1), (5, 0)),
    ((0, 0), (1, 0), (10, 0), (9, 0)),
)
"""Where the bits of four codes lie in a half word, lowest first, and which lie in the other half. A decoder brings
each code to the places of the first with one shift or rotation, and one bit of the last with a second shift."""


def prepack_nvfp4(qdata: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The words and scale bytes that `nvfp4_linear_kernel` reads, in the order in which tensor cores want a weight.

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
    more = tiles * TILE - rows
    codes = torch.stack((qdata & 15, qdata >> 4), dim=-1).view(rows, chunks, 8, 16)
    codes = codes * (scale.float() != 0).view(rows, chunks, 8, 1)  # a scale of 0 has no byte; its block is 0
    codes = F.pad(codes, (0, 0, 0, 0, 0, 0, 0, more))
    # [tile, lower row, g, chunk, i, place, h, t, side] -> [chunk, tile, lower row, g, t, h, i, place, side]
    codes = codes.view(tiles, 2, 8, chunks, 2, 4, 2, 4, 2).permute(3, 0, 1, 2, 7, 6, 4, 5, 8)
    words = torch.zeros(codes.shape[:-2], dtype=torch.int64, device=qdata.device)
    for place, bits in enumerate(PLACES):
        for side in range(2):
            code = codes[..., place, side].to(torch.int64)
            for bit, (at, other) in enumerate(bits):
                words |= ((code >> bit) & 1) << (at + 16 * (side ^ other))
    shaped = _as_int32(words).reshape(chunks, tiles, 2, 8, 4, 4)
    # [tile, lower row, g, chunk, 8 bytes] -> [chunk, tile, g, lower row, 8 bytes]
    bytes_ = F.pad(_scale_bytes(scale), (0, 0, 0, more)).view(tiles, 2, 8, chunks, 8).permute(3, 0, 2, 1, 4)
    return shaped, bytes_.contiguous().view(torch.int32).view(chunks, tiles, 8, 4)


def _scale_bytes(scale: Tensor) -> Tensor:
    known = torch.where(scale.float() == 0, 1.0, scale.float())
    mantissa, exponent = torch.frexp(known)  # value = mantissa · 2^exponent, mantissa in [0.5, 1)
    return ((exponent + 14) * 8 + (mantissa * 16 - 8)).to(torch.uint8)


def _as_int32(words: Tensor) -> Tensor:
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
