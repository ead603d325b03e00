"""Codes of 4 bits moved between rows and columns, many at once: in words, and in tiles that the caches hold.

Plain numpy on the processor, for the result goes to a file. The steps are those of a transposed bit matrix (Warren,
Hacker's Delight, 7-3), on nibbles in place of bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NIBBLES = 8
"""In a word of 32 bits."""
TILE_WORDS = 1 << 15
"""Words of each of eight rows that are worked on at once: 128 KiB. Of 2^11 to 2^16 the quickest on an AMD EPYC with
1 MiB of second-level cache a core, where 2^12 takes twice the time."""

THREADS = 4
"""That turn parts of a matrix, where torch has so many: beyond, the disk is slower."""

_SWAPS = ((4, 0x0000FFFF), (2, 0x00FF00FF), (1, 0x0F0F0F0F))
"""Rows so far apart swap these nibbles of the one with the others of the other."""


def turned(words: Tensor, order: Sequence[int], *, flip: int = 0) -> Tensor:
    """Words int32 [o, n] of eight codes along the columns as int32 [8·n, o/8], eight codes along the rows.

    Codes lie in a word from the lowest bits on. Of the rows 8r to 8r + 7, the one that `order` names first lies in
    the lowest bits of the new words.

    Args:
        flip: bits that are flipped in every word, on the way.
    """
    high, width = len(words) // NIBBLES, words.shape[1]
    if words.is_meta:
        return torch.empty(NIBBLES * width, high, dtype=torch.int32, device="meta")
    rows = _array(words, np.uint32).reshape(high, NIBBLES, width)
    out = np.empty((width, NIBBLES, high), np.int32)
    step = max(1, TILE_WORDS // max(1, width))
    share = max(step, -(-high // min(THREADS, torch.get_num_threads())))
    parts = [slice(start, start + share) for start in range(0, high, share)]
    turns = [partial(_turn_all, rows[part], order, flip, out[:, :, part], step) for part in parts]
    if len(turns) == 1:
        turns[0]()
    elif turns:
        with ThreadPoolExecutor(len(turns)) as threads:
            for done in [threads.submit(turn) for turn in turns]:
                done.result()
    return torch.from_numpy(out.reshape(NIBBLES * width, high))


def _turn_all(rows: NDArray[Any], order: Sequence[int], flip: int, out: NDArray[Any], step: int) -> None:
    """Eight rows after one another, uint32 [r, 8, n], as columns of `out`, int32 [n, 8, r]: `step` at a time."""
    high, _, width = rows.shape
    tiles, spare = np.empty((NIBBLES, step, width), np.uint32), np.empty((step, width), np.uint32)
    for start in range(0, high, step):
        part = rows[start : start + step]
        tile = tiles[:, : len(part)]  # tile[k, r, c]: code k of the columns 8c to 8c + 7
        _turn([part[:, k] for k in order], list(tile), spare[: len(part)])
        np.bitwise_xor(tile, flip, out=tile)
        by_code = torch.from_numpy(tile.view(np.int32).reshape(NIBBLES * len(part), width))
        by_column = by_code.t().contiguous()  # torch does it 5 times as fast as numpy
        out[:, :, start : start + step] = by_column.numpy().reshape(width, NIBBLES, len(part))


def paired(packed: Tensor) -> Tensor:
    """Bytes uint8 [o, n] of two codes along a row as uint8 [o/2, 2·n] of two along a column, the even row's low."""
    high, width = len(packed) // 2, packed.shape[1]
    if packed.is_meta:
        return torch.empty(high, 2 * width, dtype=torch.uint8, device="meta")
    rows = _array(packed, np.uint8).reshape(high, 2, width)
    pairs = np.empty((high, width), np.dtype("<u2"))
    step = max(1, 2 * TILE_WORDS // max(1, width))
    spare = np.empty((step, width), pairs.dtype)
    for start in range(0, high, step):
        out = pairs[start : start + step]
        other = spare[: len(out)]
        np.copyto(out, rows[start : start + step, 1])
        np.left_shift(out, 8, out=out)
        np.copyto(other, rows[start : start + step, 0])
        np.bitwise_or(out, other, out=out)  # from the lowest bits: two codes of the even row, two of the odd one
        np.right_shift(out, 4, out=other)
        np.bitwise_xor(other, out, out=other)
        np.bitwise_and(other, 0x00F0, out=other)  # where the two in the middle differ
        np.bitwise_xor(out, other, out=out)
        np.left_shift(other, 4, out=other)
        np.bitwise_xor(out, other, out=out)
    return torch.from_numpy(pairs.view(np.uint8))


def _turn(rows: list[NDArray[Any]], out: list[NDArray[Any]], spare: NDArray[Any]) -> None:
    """Eight words, of every column, as the eight words of the transposed codes."""
    for apart, mask in _SWAPS:
        shift = 4 * apart
        for low in (k for k in range(NIBBLES) if not k & apart):
            one, other = rows[low], rows[low + apart]
            np.right_shift(one, shift, out=spare)
            np.bitwise_xor(spare, other, out=spare)
            np.bitwise_and(spare, mask, out=spare)  # where what is swapped differs
            np.bitwise_xor(other, spare, out=out[low + apart])
            np.left_shift(spare, shift, out=spare)
            np.bitwise_xor(one, spare, out=out[low])
        rows = out


def _array(tensor: Tensor, dtype: Any) -> NDArray[Any]:
    found: NDArray[Any] = tensor.cpu().contiguous().numpy()
    return found.view(dtype)
