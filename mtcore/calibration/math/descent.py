"""Coordinate descent: improve a rounded weight one column at a time, never making it worse."""

from __future__ import annotations

from torch import Tensor

from mtcore.calibration.math.columns import ColumnRounding
from mtcore.errors import CalibrationError
from mtcore.numerics import QParams


def descend(
    rounded: Tensor, weight: Tensor, hessian: Tensor, qparams: QParams, *, passes: int = 2, step: int = 128
) -> Tensor:
    """Move codes so that tr((Q - W) H (Q - W)ᵀ) falls, with the scales fixed.

    With all other columns held, the error is a parabola in each value of column j; its lowest code is the one
    nearest to the vertex. Each pass takes every column once (Behdin et al. 2023, "QuantEase", arXiv:2309.01885,
    algorithm 1, started from any rounding, GPTQ's for example).

    Args:
        rounded: Q, dequantized values under `qparams`, fp32 [rows, cols].
        weight: W, fp32 [rows, cols].
        hessian: H = Σ x xᵀ, fp32 [cols, cols].
        qparams: the scales of Q.
        passes: over all columns.
        step: columns after which the rest of the gradient is brought up to date.

    Returns:
        The new Q. A column that saw no data stays as it is.

    Raises:
        CalibrationError: H is not finite.
    """
    if not bool(hessian.isfinite().all()):
        raise CalibrationError(
            "the input statistics hold NaN or infinite values: check the data and the model's dtype"
        )
    rows, cols = weight.shape
    column = ColumnRounding(qparams, rows, cols)
    values = rounded.T.contiguous()  # one row a column
    diagonal = hessian.diagonal()
    alive = (diagonal > 0).tolist()
    for _ in range(passes):
        gradient = hessian @ (values - weight.T)  # anew each pass, so that roundings do not pile up
        for start in range(0, cols, step):
            part = slice(start, min(start + step, cols))
            near = gradient[part].clone()
            before = values[part].clone()
            own = hessian[part, part]
            for i, j in enumerate(range(part.start, part.stop)):
                if not alive[j]:
                    continue
                better = column(values[j] - near[i] / diagonal[j], j)
                near.addr_(own[:, i], better - values[j])
                values[j] = better
            gradient += hessian[:, part] @ (values[part] - before)
    return values.T.contiguous()
