"""Integer codes as the integer layouts pack them: unsigned, in 32-bit words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mtcore.files import read_once
from mtcore.formats import IntElement
from mtcore.numerics import QTensor, pack
from mtopt_hf.checkpoint.nibbles import paired, turned

WORD_BYTES = 4


def packed_words(q: QTensor) -> Tensor:
    """Unsigned codes of a matrix [o, i] as int32 [o, ceil(i·bits/32)]: dense, the first code in the lowest bits.

    They count from the smallest value: two's complement with its sign bit flipped.
    """
    if not _signed(q):
        return as_words(q.qdata)
    with read_once(q.qdata.view(torch.uint8)) as codes:
        return as_words(codes ^ _signs(q))


def standing_words(q: QTensor) -> Tensor:
    """Unsigned codes of a matrix [o, i] as int32 [ceil(i·bits/32), o]: `packed_words`, its columns as rows."""
    with read_once(q.qdata.view(torch.uint8)) as codes:
        standing = as_words(codes).t().contiguous()
    return standing.bitwise_xor_(as_words(_signs(q)).t()) if _signed(q) else standing


def turned_words(q: QTensor, order: Sequence[int]) -> Tensor:
    """Unsigned codes of 4 bits [o, i] as int32 [i, o/8]: eight outputs in a word, in this order from the lowest."""
    with read_once(q.qdata) as codes:
        return turned(as_words(codes), order, flip=0x88888888 if _signed(q) else 0)[: q.cols]


def paired_rows(q: QTensor) -> Tensor:
    """Codes of 4 bits [o, i] as bytes uint8 [o/2, i]: row 2r in the low bits, row 2r + 1 in the high bits."""
    with read_once(q.qdata) as codes:
        return paired(codes)[:, : q.cols]


def _signed(q: QTensor) -> bool:
    assert isinstance(q.format.element, IntElement)
    return q.format.element.signed


def _signs(q: QTensor) -> Tensor:
    """The sign bits of a row of codes, as it is packed: [1, bytes]."""
    bits = q.format.element.bits
    return pack(torch.full((1, q.cols), 1 << (bits - 1), dtype=torch.uint8, device=q.qdata.device), bits)


def unsigned_zeros(q: QTensor) -> Tensor:
    """The unsigned code of zero in every block, uint8 [o, blocks]; halfway up where codes are signed."""
    zero_point = q.qparams.zero_point
    if zero_point is not None:
        return zero_point.to(torch.uint8)
    return torch.full(
        q.qparams.scale.shape, 1 << (q.format.element.bits - 1), dtype=torch.uint8, device=q.qdata.device
    )


def words(codes: Tensor, bits: int) -> Tensor:
    """Unsigned codes [rows, n] as int32 [rows, ceil(n·bits/32)]: dense, the first code in the lowest bits."""
    return as_words(pack(codes.contiguous(), bits))


def as_words(rows: Tensor) -> Tensor:
    """Bytes [rows, n] as little-endian words int32 [rows, ceil(n/4)], filled up with zeros."""
    missing = -rows.shape[1] % WORD_BYTES
    whole = F.pad(rows, (0, missing)) if missing else rows.contiguous()
    return whole.reshape(-1).view(torch.int32).view(len(rows), -1)
