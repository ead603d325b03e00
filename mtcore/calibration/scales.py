"""Scales of weights: the magnitudes of their blocks, as they are or the cheapest near them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mtcore.backends import BLOCK_AMAX, SWEEP_AMAX, format_key, kernel_for
from mtcore.calibration.math import best_amax, quadratic, scaled_amax, squares, swept_amax
from mtcore.calibration.quantizers import Quantizers, WeightKey, weight_tensor
from mtcore.errors import CalibrationError
from mtcore.formats import PER_TENSOR, Float32Element, TensorFormat
from mtcore.numerics.scale_search import CODES_ABOVE, CODES_BELOW, BlockError

ScaleChoice = Literal["max", "mse", "hessian"]
"""The magnitude itself; the least squared error; the least error of the block's outputs."""


def choose_amax(
    weight: Tensor, fmt: TensorFormat, amax: Tensor, outer: Tensor | None, hessian: Tensor | None, how: ScaleChoice
) -> Tensor:
    """Magnitudes for a weight's scales: as given ("max"), or the cheapest near them.

    Args:
        weight: fp32 [rows, cols].
        amax, outer: fp32 [grid rows, grid cols] and []: where the search starts.
        hessian: Σ x xᵀ of the inputs, fp32 [cols, cols]; its diagonal weighs the squared errors. All columns weigh
            the same where it is None.

    Returns:
        fp32 [grid rows, grid cols].
    """
    if how == "max" or fmt.block == PER_TENSOR:
        return amax
    if how == "hessian" and hessian is not None:
        return search_amax(weight, fmt, amax, outer, quadratic(fmt.block, hessian))
    importance = None if hessian is None else hessian.diagonal()
    if isinstance(fmt.inner.element, Float32Element):
        return search_amax(weight, fmt, amax, outer, squares(fmt.block, importance))
    return swept(weight, fmt, amax, outer, importance)


def weight_amax(weight: Tensor, fmt: TensorFormat) -> Tensor:
    """The largest magnitude of each block of a weight [rows, cols]: fp32 [grid rows, grid cols]."""
    found: Tensor = kernel_for(BLOCK_AMAX.name, weight.device, fmt)(weight, fmt.block.rows, fmt.block.cols)
    return found


def swept(
    weight: Tensor, fmt: TensorFormat, amax: Tensor, outer: Tensor | None, importance: Tensor | None = None
) -> Tensor:
    """The magnitudes near `amax` of least squared error, of all neighbouring codes of scales of few bits.

    Args:
        weight: [rows, cols], any float dtype.
        amax, outer: as in `choose_amax`.
        importance: what the squares of each column weigh, fp32 [cols]; the same where None.
    """
    sweep = kernel_for(SWEEP_AMAX.name, weight.device, fmt)
    found: Tensor = sweep(weight, amax, outer, importance, CODES_BELOW, CODES_ABOVE, format_key(fmt))
    return found


@dataclass(frozen=True)
class BlockScales:
    """`choose_amax` for one block of columns at a time, from values that already make good for earlier errors."""

    format: TensorFormat
    how: ScaleChoice

    def __call__(self, values: Tensor, hessian: Tensor, outer: Tensor | None) -> Tensor:
        """Values [rows, wide] and the block's part of H → fp32 [grid rows, 1]."""
        values = values.contiguous()
        return choose_amax(values, self.format, weight_amax(values, self.format), outer, hessian, self.how)


def search_amax(weight: Tensor, fmt: TensorFormat, amax: Tensor, outer: Tensor | None, cost: BlockError) -> Tensor:
    """The magnitudes near `amax` of least cost: every neighbouring code of scales of few bits, else a grid."""
    if isinstance(fmt.inner.element, Float32Element):
        candidates = scaled_amax(amax, 0.4, 1.1, 0.02)
    else:
        candidates = swept_amax(amax, fmt, outer)
    return best_amax(weight, fmt, candidates, cost, outer)


def fix_amax(
    model: nn.Module, quantizers: Quantizers, key: WeightKey, how: ScaleChoice, hessian: Tensor | None = None
) -> None:
    """Give a weight, or an expert's matrix, magnitudes that stay when its values move, where it has none yet."""
    quantizer = quantizers[key]
    if quantizer.amax is None and quantizer.format.symmetric:
        fmt, matrix = quantizer.format, quantizer.matrix(weight_tensor(model, key).detach()).float()
        amax = choose_amax(matrix, fmt, weight_amax(matrix, fmt), quantizer.outer_amax, hessian, how)
        quantizer.set_amax(amax, quantizer.outer_amax)


def refuse_transformed(quantizers: Quantizers, method: str) -> None:
    """A weight that is scaled, rotated or shifted before it is rounded cannot be given its rounded values back.

    Raises:
        CalibrationError: there is one.
    """
    changed = [
        ".".join(key)
        for key, quantizer in quantizers.items()
        if quantizer.is_weight
        and (quantizer.pre_quant_scale is not None or quantizer.rotation is not None or quantizer.bias is not None)
    ]
    if changed:
        raise CalibrationError(
            f"{method} rounds weights as they are, but {changed[0]} ({len(changed)} in all) is scaled, rotated or "
            "shifted before it is rounded: fold that into the weights, or choose another algorithm"
        )
