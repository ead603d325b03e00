"""Scales: from the largest magnitudes of a tensor to the scales that are stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtcore.errors import FormatError
from mtcore.formats import Float32Element, FloatElement, PowerOfTwoElement, Scale, TensorFormat
from mtcore.numerics.blocks import block_amax
from mtcore.numerics.cast import decode, encode


@dataclass(frozen=True)
class QParams:
    """The scales of one matrix, as they are stored: `x ≈ (qdata - zero_point) · scale · scale_2`.

    Attributes:
        format: the format that they belong to.
        scale: [grid rows, grid cols] in the dtype of the inner scale element (fp32, float8, uint8 exponents).
        scale_2: fp32 [] where the format has an outer level, else None.
        zero_point: int16 [grid rows, grid cols] for asymmetric formats, else None.
    """

    format: TensorFormat
    scale: Tensor
    scale_2: Tensor | None = None
    zero_point: Tensor | None = None

    def multiplier(self) -> Tensor:
        """What a code is multiplied by: fp32 [grid rows, grid cols], the levels multiplied in fp32."""
        element = self.format.inner.element
        scale = self.scale if isinstance(element, Float32Element) else decode(self.scale, element)
        return scale if self.scale_2 is None else scale * self.scale_2


def tensor_amax(x: Tensor) -> Tensor:
    """The largest magnitude of a tensor: fp32 [], 0 for an empty one, NaN if it holds a NaN."""
    return x.abs().amax().float() if x.numel() else torch.zeros((), device=x.device)


def dynamic_qparams(x: Tensor, fmt: TensorFormat, outer_amax: Tensor | None = None) -> QParams:
    """Scales from the matrix itself.

    Args:
        x: [rows, cols], any float dtype.
        fmt: the format.
        outer_amax: fp32 [] for the outer level of a two-level format, where it is known beforehand (calibrated,
            or shared with other tensors); the matrix's own where None.
    """
    if not fmt.symmetric:
        raise FormatError(f"format {fmt.name!r}: asymmetric scales need the minimum and maximum, not the amax")
    if fmt.outer is not None and outer_amax is None:
        outer_amax = tensor_amax(x)
    return qparams_from_amax(block_amax(x, fmt.block), fmt, outer_amax)


def qparams_from_amax(amax: Tensor, fmt: TensorFormat, outer_amax: Tensor | None = None) -> QParams:
    """Scales from magnitudes.

    Args:
        amax: fp32 [grid rows, grid cols], the largest magnitude of each block.
        fmt: a symmetric format.
        outer_amax: fp32 [], the largest magnitude of the tensor; needed where the format has two levels.
    """
    if fmt.outer is None:
        return QParams(fmt, _inner_scale(amax, fmt, fmt.inner, None))
    if outer_amax is None:
        raise FormatError(f"format {fmt.name!r}: its outer scale needs the amax of the whole tensor")
    scale_2 = _fp32_scale(outer_amax.float() / fmt.outer_target, outer_amax, fmt.outer)
    return QParams(fmt, _inner_scale(amax, fmt, fmt.inner, scale_2), scale_2)


def _inner_scale(amax: Tensor, fmt: TensorFormat, level: Scale, scale_2: Tensor | None) -> Tensor:
    unit = amax / fmt.target if scale_2 is None else amax / (fmt.target * scale_2)
    match level.element:
        case Float32Element():
            return _fp32_scale(unit, amax, level)
        case FloatElement() as element:
            low = element.min if level.smallest is None else level.smallest
            # clamp keeps NaN; infinity must become NaN, not the largest scale, so that a bad block shows.
            rounded = torch.where(amax.isfinite(), unit.clamp(low, element.max), torch.nan)
            return encode(torch.where(amax == 0, level.zero_block, rounded), element)
        case PowerOfTwoElement():
            raise NotImplementedError(f"format {fmt.name!r}: power-of-two scales")
        case _:
            raise FormatError(f"format {fmt.name!r}: {level.element.name} is not an element for scales")


def _fp32_scale(unit: Tensor, amax: Tensor, level: Scale) -> Tensor:
    """An fp32 scale: zero (of a zero block, or by underflow) becomes `zero_block`, infinity becomes NaN."""
    scale = torch.where(unit == 0, level.zero_block, unit.float())
    return torch.where(amax.isinf(), torch.nan, scale)
