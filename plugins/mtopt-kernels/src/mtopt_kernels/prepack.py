"""Prepacking: weights laid out once, when a model is compressed, so that a product reads them as it needs them."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.errors import FormatError

CHUNK = 128
"""Columns that one word's eight codes span: code j of word t belongs to column 16 j + t, so to scale block j."""
PLACES = ((6, 7, 8, 15), (3, 4, 5, 12), (0, 1, 2, 9), (10, 11, 13, 14))
"""Where the bits of the four codes of a half word lie, lowest first: a decoder moves three of them by one shift."""


def prepack_nvfp4(qdata: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The words and scale bytes that `nvfp4_linear_kernel` reads.

    Args:
        qdata: uint8 [rows, cols / 2], two codes a byte; cols is a multiple of 128.
        scale: float8_e4m3fn [rows, cols / 16], not negative.

    Returns:
        int32 [cols / 128, rows, 16] and int32 [cols / 128, rows, 2]. A scale byte is eeeeemmm, that is
        2^(e - 15) (1 + m / 8): e4m3 without its sign and with one more exponent bit, so that no value is subnormal.

    Raises:
        FormatError: a scale is NaN (its block was not finite) or negative.
    """
    if not bool((scale.float() >= 0).all()):  # not true for NaN
        raise FormatError("a weight in nvfp4 has block scales that are NaN or negative; quantize finite weights")
    rows, half = qdata.shape
    chunks = half * 2 // CHUNK
    codes = torch.stack((qdata & 15, qdata >> 4), dim=-1).view(rows, chunks, 8, 16).to(torch.int64)
    codes *= (scale.float() != 0).view(rows, chunks, 8, 1)  # a scale of 0 has no byte; its block is 0
    words = torch.zeros((rows, chunks, 16), dtype=torch.int64, device=qdata.device)
    for code in range(8):
        for bit, place in enumerate(PLACES[code % 4]):
            words |= ((codes[:, :, code] >> bit) & 1) << (place + 16 * (code // 4))
    words = _as_int32(words).transpose(0, 1).contiguous()
    return words, _scale_bytes(scale).view(rows, chunks, 8).view(torch.int32).transpose(0, 1).contiguous()


def _scale_bytes(scale: Tensor) -> Tensor:
    known = torch.where(scale.float() == 0, 1.0, scale.float())
    mantissa, exponent = torch.frexp(known)  # value = mantissa · 2^exponent, mantissa in [0.5, 1)
    return ((exponent + 14) * 8 + (mantissa * 16 - 8)).to(torch.uint8)


def _as_int32(words: Tensor) -> Tensor:
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
