"""Launching: which kernel computes an operation on a matrix, and on how many programs."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.backends import QUANTIZE, code_dtype, scale_dtype
from mtcore.formats import PER_ROW, PER_TENSOR, Block
from mtcore.numerics import packed_cols
from mtopt_kernels.constants import Known, known
from mtopt_kernels.cuts import block_tiles, rectangles
from mtopt_kernels.kernels.amax import rows_amax_kernel
from mtopt_kernels.kernels.blocks import blocks_amax_kernel, blocks_kernel, dequantize_blocks_kernel
from mtopt_kernels.kernels.rectangles import (
    dequantize_rectangles_kernel,
    rectangles_kernel,
    tiles_amax_kernel,
)
from mtopt_kernels.pairs import LONGEST_ROW, in_pairs, quantize_pairs
from mtopt_kernels.replay import replayed
from mtopt_kernels.sizes import cdiv, power_of_two
from mtopt_kernels.start import start


@replayed
def fake_quantize(x: Tensor, amax: Tensor | None, outer_amax: Tensor | None, format: str) -> Tensor:
    """See `mtcore.backends.reference.fake_quantize`."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        _quantize_into(x, amax, outer_amax, known(format), out, None, None)
    return out


@replayed
def quantize(
    x: Tensor, amax: Tensor | None, outer_amax: Tensor | None, format: str
) -> tuple[Tensor, Tensor, Tensor]:
    """See `mtcore.backends.reference.quantize`."""
    if not x.numel():
        by_torch: tuple[Tensor, Tensor, Tensor] = QUANTIZE.reference(x, amax, outer_amax, format)
        return by_torch
    fmt = known(format).fmt
    rows, cols = x.shape
    qdata = torch.empty((rows, packed_cols(cols, fmt.element.bits)), dtype=torch.uint8, device=x.device)
    scale = torch.empty(fmt.block.grid(rows, cols), dtype=_byte(scale_dtype(fmt.inner.element)), device=x.device)
    scale_2 = torch.empty(() if fmt.outer is not None else (0,), dtype=torch.float32, device=x.device)
    _quantize_into(x, amax, outer_amax, known(format), qdata, scale, scale_2)
    return qdata.view(code_dtype(fmt.element)), scale.view(scale_dtype(fmt.inner.element)), scale_2


@replayed
def dequantize(
    qdata: Tensor, scale: Tensor, scale_2: Tensor | None, cols: int, dtype: torch.dtype, format: str
) -> Tensor:
    """See `mtcore.backends.reference.dequantize`."""
    fmt, constants = known(format)
    rows = qdata.shape[0]
    out = torch.empty((rows, cols), dtype=dtype, device=qdata.device)
    if not out.numel():
        return out
    codes, block = qdata.contiguous().view(torch.uint8), fmt.block
    stored = scale.contiguous().view(_byte(scale.dtype))
    if block in (PER_ROW, PER_TENSOR) or block.rows > 1:
        shape = rectangles(rows, cols, block, given=True, contiguous=True, light=False)
        start(
            dequantize_rectangles_kernel,
            shape.programs,
            codes,
            stored,
            out,
            shape.rows,
            shape.cols,
            shape.grid_cols,
            constants,
            shape.high,
            shape.wide,
            shape.shared,
            warps=shape.warps,
        )
    else:
        whole, tile, programs, grid_cols = block_tiles(rows, cols, block.cols, contiguous=True)
        start(
            dequantize_blocks_kernel,
            programs,
            codes,
            stored,
            scale_2,
            out,
            rows * grid_cols,
            cols,
            codes.shape[1],
            grid_cols,
            constants,
            block.cols,
            tile,
            whole,
            warps=4,
        )
    return out


@replayed
def block_amax(x: Tensor, rows: int, cols: int) -> Tensor:
    """See `mtcore.backends.reference.block_amax`."""
    block = Block(rows, cols)
    grid_rows, grid_cols = block.grid(*x.shape)
    if block in (PER_ROW, PER_TENSOR) or not x.numel():
        amax = torch.zeros((grid_rows, grid_cols), dtype=torch.float32, device=x.device)
        if x.numel():
            _rows_amax(x, amax, per_tensor=block == PER_TENSOR)
        return amax
    amax = torch.empty((grid_rows, grid_cols), dtype=torch.float32, device=x.device)
    x = streamable(x)
    if block.rows == 1:
        whole, tile, programs, _ = block_tiles(x.shape[0], x.shape[1], cols, contiguous=x.is_contiguous())
        start(
            blocks_amax_kernel,
            programs,
            x,
            amax,
            grid_rows * grid_cols,
            x.shape[1],
            x.stride(0),
            grid_cols,
            cols,
            tile,
            whole,
            warps=4,
        )
    else:
        start(
            tiles_amax_kernel, grid_rows * grid_cols, x, amax, *x.shape, x.stride(0), grid_cols, rows, cols, warps=8
        )
    return amax


def _quantize_into(
    x: Tensor,
    amax: Tensor | None,
    outer_amax: Tensor | None,
    what: Known,
    out: Tensor,
    scale: Tensor | None,
    scale_2: Tensor | None,
) -> None:
    """Fill `out` with fake-quantized values, or with codes where `scale` is there to be filled as well."""
    fmt, constants = what
    block, codes = fmt.block, scale is not None
    x = streamable(x)
    rows, cols = x.shape
    if amax is not None:
        amax = on_grid(amax, block.grid(rows, cols))
    if block in (PER_ROW, PER_TENSOR) or block.rows > 1:
        if amax is None and (block == PER_TENSOR or (block == PER_ROW and cols > LONGEST_ROW)):
            amax = block_amax(x, block.rows, block.cols)  # and read once more
        if amax is None and in_pairs(x, block):
            quantize_pairs(x, what, out, scale)
            return
        light = amax is not None and not codes
        shape = rectangles(rows, cols, block, given=amax is not None, contiguous=x.is_contiguous(), light=light)
        start(
            rectangles_kernel,
            shape.programs,
            x,
            amax,
            out,
            scale,
            shape.rows,
            shape.cols,
            x.stride(0),
            shape.grid_cols,
            constants,
            shape.high,
            shape.wide,
            shape.shared,
            amax is not None,
            codes,
            warps=shape.warps,
        )
        return
    if fmt.outer is not None and outer_amax is None:
        outer_amax = block_amax(x, -1, -1)
    light = not codes and (amax is not None or constants.scale == "power")
    whole, tile, programs, grid_cols = block_tiles(
        rows, cols, block.cols, contiguous=x.is_contiguous(), light=light
    )
    start(
        blocks_kernel,
        programs,
        x,
        amax,
        outer_amax,
        out,
        scale,
        scale_2,
        rows * grid_cols,
        cols,
        x.stride(0),
        out.shape[1],
        grid_cols,
        constants,
        block.cols,
        tile,
        whole,
        amax is not None,
        codes,
        warps=4,
    )


def _rows_amax(x: Tensor, amax: Tensor, *, per_tensor: bool) -> None:
    x = streamable(x)
    rows, cols = x.shape
    if per_tensor and x.is_contiguous():
        rows, cols = 1, rows * cols
    wide = min(max(power_of_two(cols), 16), 4096)
    loop = min(4, cdiv(cols, wide))
    chunks = cdiv(cols, wide * loop)
    start(
        rows_amax_kernel,
        rows * chunks,
        x,
        amax.view(torch.int32),
        cols,
        x.stride(0),
        chunks,
        wide,
        loop,
        per_tensor,
        warps=4,
    )


def streamable(x: Tensor) -> Tensor:
    """x itself where the elements of a row lie side by side, else a copy."""
    return x if x.stride(1) == 1 or (x.shape[1] == 1 and x.is_contiguous()) else x.contiguous()


def on_grid(amax: Tensor, grid: tuple[int, int]) -> Tensor:
    """Magnitudes as kernels read them: one a block, fp32, without gaps."""
    if amax.shape == grid and amax.dtype == torch.float32 and amax.is_contiguous():
        return amax
    return amax.float().expand(*grid).contiguous()


def _byte(dtype: torch.dtype) -> torch.dtype:
    """What kernels read and write instead: Triton's own float8 types are not bit-exact in its interpreter."""
    return torch.float32 if dtype == torch.float32 else torch.uint8
