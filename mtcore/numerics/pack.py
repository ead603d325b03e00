"""Packing: codes of fewer than 8 bits, dense in bytes along a row, the first code in the lowest bits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def packed_cols(cols: int, bits: int) -> int:
    """Bytes in a packed row of `cols` codes."""
    return -(-cols * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack uint8 codes [rows, cols] of `bits` each into uint8 [rows, ceil(cols·bits/8)].

    Code k of a row holds the row's bits [k·bits, (k+1)·bits), least significant first; so two 4-bit codes share
    a byte, the even one in the low nibble. The last byte is filled up with zero bits.
    """
    if bits == 8:
        return codes
    rows, cols = codes.shape
    if bits == 4:
        padded = F.pad(codes, (0, cols % 2))
        return padded[:, 0::2] | (padded[:, 1::2] << 4)
    # Eight codes of b bits fill b bytes: build each group in one int64, then take its bytes.
    group = F.pad(codes, (0, -cols % 8)).view(rows, -(-cols // 8), 8)
    word = torch.zeros(group.shape[:2], dtype=torch.int64, device=codes.device)
    for k in range(8):
        word |= group[..., k].to(torch.int64) << (k * bits)
    as_bytes = torch.stack([(word >> (8 * k)).bitwise_and_(255).to(torch.uint8) for k in range(bits)], dim=-1)
    return as_bytes.flatten(1)[:, : packed_cols(cols, bits)].contiguous()


def unpack(packed: Tensor, bits: int, cols: int) -> Tensor:
    """The uint8 codes [rows, cols] that `pack` packed."""
    if bits == 8:
        return packed
    rows = packed.shape[0]
    if bits == 4:
        return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1)[:, :cols].contiguous()
    group = F.pad(packed, (0, -packed.shape[1] % bits)).view(rows, -(-packed.shape[1] // bits), bits)
    word = torch.zeros(group.shape[:2], dtype=torch.int64, device=packed.device)
    for k in range(bits):
        word |= group[..., k].to(torch.int64) << (8 * k)
    codes = torch.stack([(word >> (k * bits)).bitwise_and_(2**bits - 1).to(torch.uint8) for k in range(8)], dim=-1)
    return codes.flatten(1)[:, :cols].contiguous()
