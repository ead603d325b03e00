"""Integer codes as the integer layouts pack them: unsigned, in 32-bit words."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtcore.formats import IntElement
from mtcore.numerics import QTensor, pack, unpack

WORD_BYTES = 4
BOTH_SIGNS = 0x88
"""The sign bits of two 4-bit codes in a byte; flipping them counts both from the smallest value."""


def unsigned_codes(q: QTensor) -> Tensor:
    """Codes uint8 [o, i], counted from the smallest value: two's complement with its sign bit flipped."""
    element = q.format.element
    assert isinstance(element, IntElement)
    codes = unpack(q.qdata, element.bits, q.cols).view(torch.uint8)
    return codes ^ (1 << (element.bits - 1)) if element.signed else codes


def packed_words(q: QTensor) -> Tensor:
    """Unsigned codes of a matrix [o, i] as int32 [o, ceil(i·bits/32)]: dense, the first code in the lowest bits."""
    element = q.format.element
    assert isinstance(element, IntElement)
    if not element.signed:
        return as_words(q.qdata)  # packed so already
    if element.bits == 4 and q.cols % 2 == 0:
        return as_words(q.qdata ^ BOTH_SIGNS)
    return words(unsigned_codes(q), element.bits)


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
    return F.pad(rows, (0, -rows.shape[1] % WORD_BYTES)).reshape(-1).view(torch.int32).view(len(rows), -1)
