"""Four over six: each block of NVFP4 chooses between two scales the one with the smaller error.

The largest E2M1 values, 4 and 6, lie far apart, so that a block whose values gather just under its maximum is
coarse at the top. Scaled to 4, its upper range is finer. The idea and the bound of 256 are from "Four Over Six:
More Accurate NVFP4 Quantization with Adaptive Block Scaling" (arXiv 2512.02010). What is stored is plain NVFP4:
the choice only changes the scales, so every reader of the format takes it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mtcore.errors import FormatError
from mtcore.formats import FloatElement, TensorFormat
from mtcore.numerics.bands import in_bands
from mtcore.numerics.blocks import block_amax, tensor_amax, to_blocks
from mtcore.numerics.quantize import fake_quantize
from mtcore.numerics.scaling import QParams, qparams_from_amax


def adaptive_formats(fmt: TensorFormat) -> tuple[TensorFormat, TensorFormat]:
    """The two ways of scaling a block: its amax on the largest element value, or on the one below.

    Both aim the tensor's amax at largest element value x largest power of two among the inner scales. For NVFP4
    that is 6 · 256 = 1536: a scale of the second way is 6/4 times that of the first, and 256 is the largest power
    of two whose 1.5-fold (384) E4M3 still holds.

    Example:
        >>> from mtcore.formats.catalog import NVFP4
        >>> [(way.target, way.outer_target) for way in adaptive_formats(NVFP4)]
        [(6.0, 1536.0), (4.0, 1536.0)]
    """
    inner = fmt.inner.element
    if fmt.outer is None or not isinstance(fmt.element, FloatElement) or not isinstance(inner, FloatElement):
        raise FormatError(f"format {fmt.name!r}: choosing between two scales needs two levels of scales and floats")
    largest, second = sorted({value for value in fmt.element.values if value > 0}, reverse=True)[:2]
    outer_amax_to = largest * 2.0**inner.max_exponent
    return (
        replace(fmt, amax_to=largest, outer_amax_to=outer_amax_to),
        replace(fmt, amax_to=second, outer_amax_to=outer_amax_to),
    )


def four_over_six_qparams(x: Tensor, fmt: TensorFormat, outer_amax: Tensor | None = None) -> QParams:
    """Scales of `fmt` for a matrix [rows, cols], each block under the better of its two scales.

    The error of a block is the sum of squared differences to the dequantized values, in fp32, added up by halves
    (first half of the block + second half, until one is left); of two equal errors the larger target wins. A block
    that is not finite gets a NaN scale, as always.

    Args:
        x: any float dtype.
        fmt: a two-level float format; the parameters that come back belong to it.
        outer_amax: as in `dynamic_qparams`.
    """
    ways = adaptive_formats(fmt)
    outer = tensor_amax(x) if outer_amax is None else outer_amax

    def chosen_scales(part: Tensor, _: slice) -> Tensor:
        amax = block_amax(part, fmt.block)
        six, four = (qparams_from_amax(amax, way, outer) for way in ways)
        better = _block_errors(part, four) < _block_errors(part, six)
        return torch.where(better, four.scale.view(torch.uint8), six.scale.view(torch.uint8))

    codes = in_bands(chosen_scales, x, fmt.block, fmt.block.grid(*x.shape)[0])
    shared = qparams_from_amax(x.new_zeros((0, 0), dtype=torch.float32), ways[0], outer)
    return QParams(fmt, codes.view(shared.scale.dtype), shared.scale_2)


def _block_errors(x: Tensor, qparams: QParams) -> Tensor:
    """The sum of squared errors of each block, fp32 [grid rows, grid cols]."""
    wide = x.float()
    squares = to_blocks((fake_quantize(wide, qparams) - wide).square_(), qparams.format.block)
    terms = squares.permute(0, 2, 1, 3).flatten(2)  # [grid rows, grid cols, elements of a block]
    while (count := terms.shape[-1]) > 1:
        half = (count + 1) // 2
        upper = terms[..., half:]
        terms = torch.cat((terms[..., : count - half] + upper, terms[..., count - half : half]), dim=-1)
    return terms.squeeze(-1)
