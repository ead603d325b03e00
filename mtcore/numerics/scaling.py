"""Scales: from the largest magnitudes of a tensor to the scales that are stored."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mtcore.errors import FormatError
from mtcore.formats import Float32Element, FloatElement, IntElement, PowerOfTwoElement, Scale, TensorFormat
from mtcore.numerics.blocks import block_amax, block_range, tensor_amax
from mtcore.numerics.cast import decode, encode
from mtcore.numerics.powers import power_of_two_codes
from mtcore.numerics.quotient import quotient


@dataclass(frozen=True)
class QParams:
    """The scales of one matrix, as they are stored: `x ≈ (qdata - zero_point) · scale · scale_2`.

    Attributes:
        format: the format that they belong to; a two-stage one means its scales as `TensorFormat` says.
        scale: [grid rows, grid cols] in the dtype of the inner scale element (fp32, float8, uint8 exponents).
        scale_2: fp32 [] where the format has an outer level, else None.
        zero_point: int16 [grid rows, grid cols] for asymmetric formats, else None.
    """

    format: TensorFormat
    scale: Tensor
    scale_2: Tensor | None = None
    zero_point: Tensor | None = None

    def multiplier(self) -> Tensor:
        """What a code is multiplied by: fp32 [grid rows, grid cols], the levels multiplied in fp32.

        In a two-stage format the outer scale belongs to the second stage, and is not part of it.
        """
        element = self.format.inner.element
        scale = self.scale if isinstance(element, Float32Element) else decode(self.scale, element)
        return scale if self.scale_2 is None or self.format.via is not None else scale * self.scale_2

    def band(self, grid_rows: slice) -> QParams:
        """The scales of some rows of the grid."""
        if grid_rows == slice(None):
            return self
        zero_point = None if self.zero_point is None else self.zero_point[grid_rows]
        return replace(self, scale=self.scale[grid_rows], zero_point=zero_point)


def dynamic_qparams(x: Tensor, fmt: TensorFormat, outer_amax: Tensor | None = None) -> QParams:
    """Scales from the matrix itself.

    Args:
        x: [rows, cols], any float dtype.
        fmt: the format.
        outer_amax: fp32 [] for the outer level of a two-level format, where it is known beforehand (calibrated,
            or shared with other tensors); the matrix's own where None.
    """
    if not fmt.symmetric:
        return qparams_from_range(*block_range(x, fmt.block), fmt)
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
    if not fmt.symmetric:
        raise FormatError(
            f"format {fmt.name!r}: an amax does not give asymmetric scales; use qparams_from_range with the "
            "minimum and maximum of each block"
        )
    if fmt.outer is None:
        return QParams(fmt, _inner_scale(amax, fmt, None))
    if outer_amax is None:
        raise FormatError(f"format {fmt.name!r}: its outer scale needs the amax of the whole tensor")
    scale_2 = outer_scale(outer_amax, fmt)
    return QParams(fmt, _inner_scale(amax, fmt, None if fmt.via is not None else scale_2), scale_2)


def qparams_from_range(low: Tensor, high: Tensor, fmt: TensorFormat) -> QParams:
    """Scales and zero points from the least and the largest values; zero is a value of every block.

    scale = (high - low) / (number of codes - 1); zero_point = element minimum + rne(-low / scale), clamped; so the
    code of zero is the zero point, exactly.

    Args:
        low, high: fp32 [grid rows, grid cols], the range of each block; it is widened to hold zero.
        fmt: an asymmetric format.
    """
    element, offset = fmt.element, fmt.zero_point
    if offset is None or not isinstance(element, IntElement):
        raise FormatError(f"format {fmt.name!r}: it is symmetric; use qparams_from_amax")
    low, high = low.clamp(max=0), high.clamp(min=0)
    span = high - low
    scale = _fp32_scale(quotient(span, element.max - element.min), span, fmt.inner)
    zero_point = (-low / scale).round_().add_(element.min).nan_to_num_(nan=0.0).clamp_(offset.min, offset.max)
    return QParams(fmt, scale, zero_point=zero_point.to(torch.int16))


def outer_scale(outer_amax: Tensor, fmt: TensorFormat) -> Tensor:
    """The outer scale, fp32 [], of a two-level format for a tensor with this largest magnitude."""
    assert fmt.outer is not None
    return _fp32_scale(quotient(outer_amax.float(), fmt.outer_target), outer_amax, fmt.outer)


def _inner_scale(amax: Tensor, fmt: TensorFormat, scale_2: Tensor | None) -> Tensor:
    level = fmt.inner
    if isinstance(level.element, PowerOfTwoElement):
        return power_of_two_codes(amax if scale_2 is None else amax / scale_2, fmt.target, level)
    unit = quotient(amax, fmt.target) if scale_2 is None else amax / (fmt.target * scale_2)
    match level.element:
        case Float32Element():
            return _fp32_scale(unit, amax, level)
        case FloatElement() as element:
            return encode_scale(unit, amax, level, element)
        case _:
            raise FormatError(f"format {fmt.name!r}: {level.element.name} is not an element for scales")


def encode_scale(unit: Tensor, amax: Tensor, level: Scale, element: FloatElement) -> Tensor:
    """Scales rounded into a float element, clamped to [smallest, max]; a zero block's is `zero_block`."""
    low = element.min if level.smallest is None else level.smallest
    # clamp keeps NaN; infinity must become NaN, not the largest scale, so that a bad block shows.
    rounded = torch.where(amax.isfinite(), unit.clamp(low, element.max), torch.nan)
    return encode(torch.where(amax == 0, level.zero_block, rounded), element)


def _fp32_scale(unit: Tensor, amax: Tensor, level: Scale) -> Tensor:
    """An fp32 scale: zero (of a zero block, or by underflow) becomes `zero_block`, infinity becomes NaN."""
    scale = torch.where(unit == 0, level.zero_block, unit.float())
    return torch.where(amax.isinf(), torch.nan, scale)
