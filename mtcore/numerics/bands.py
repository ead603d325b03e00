"""Bands: working through a large matrix some rows at a time, so that temporaries stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mtcore.formats import WHOLE, Block

BAND_ELEMENTS = 2**17
"""Elements that a band aims at: 512 KiB of fp32. On one core of an AMD EPYC (512 KiB of L2, 32 MiB of L3) smaller
bands were slower, 2^18 and 2^19 no faster beyond the noise, by `bench/cpu_numerics.py --bands`."""


def in_bands(op: Callable[[Tensor, slice], Tensor], x: Tensor, block: Block, out_rows: int) -> Tensor:
    """Apply `op` to bands of rows and stack the results; the same as `op` on the whole matrix, with less memory.

    Args:
        op: takes rows of x and the slice of the scale grid's rows that belongs to them.
        x: [rows, cols]. It is not cut where that gains nothing: small, not on a CPU, or inside a compiler.
        block: bands hold whole blocks, except at the lower edge.
        out_rows: rows of the result.
    """
    bands = list(row_bands(x.shape[0], x.shape[1], block)) if _worth_cutting(x) else []
    if len(bands) < 2:
        return op(x, slice(None))
    out, done = None, 0
    for rows, grid_rows in bands:
        part = op(x[rows], grid_rows)
        if out is None:
            out = part.new_empty((out_rows, *part.shape[1:]))
        out[done : done + len(part)] = part
        done += len(part)
    assert out is not None
    return out


def row_bands(rows: int, cols: int, block: Block) -> Iterator[tuple[slice, slice]]:
    """Slices of a matrix's rows, each with the slice of the scale grid's rows that belongs to it.

    Example:
        >>> list(row_bands(5, 2**16, Block(2, 16)))
        [(slice(0, 2, None), slice(0, 1, None)), (slice(2, 4, None), slice(1, 2, None)), (slice(4, 5, None), \
slice(2, 3, None))]
    """
    high = 1 if block.rows == WHOLE else block.rows
    grid_step = max(1, BAND_ELEMENTS // max(1, high * cols))
    step = high * grid_step
    for start in range(0, rows, step):
        first = start // high
        grid_rows = slice(None) if block.rows == WHOLE else slice(first, first + grid_step)
        yield slice(start, min(start + step, rows)), grid_rows


def _worth_cutting(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.numel() > 2 * BAND_ELEMENTS and not torch.compiler.is_compiling()
