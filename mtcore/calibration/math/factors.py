"""Factors of a Hessian: damped, inverted, and refused where they cannot be trusted."""

from __future__ import annotations

import torch
from torch import Tensor

from mtcore.errors import CalibrationError


def damped(hessian: Tensor, damping: float) -> Tensor:
    """H + damping · mean(diag H) · I in fp64; a column that saw no data gets the mean on its diagonal.

    Args:
        hessian: [cols, cols], symmetric.
        damping: share, at least 0.

    Raises:
        CalibrationError: H is not finite, or is zero throughout.
    """
    wide = hessian.double()
    diagonal = wide.diagonal()
    mean = diagonal.mean()
    if not bool(mean.isfinite()) or not bool(wide.isfinite().all()):
        raise CalibrationError(
            "the input statistics hold NaN or infinite values: check the data and the model's dtype"
        )
    if not bool(mean > 0):
        raise CalibrationError("the inputs were zero throughout: give data that exercises the layer")
    unseen = (diagonal == 0).double() * mean
    return wide + torch.diag(unseen + damping * mean)


def inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """U, fp64 upper triangular [cols, cols], with Uᵀ U = (damped H)⁻¹.

    Where rounding still leaves H indefinite the damping grows tenfold, at most to 1.

    Raises:
        CalibrationError: as in `damped`; or H is not positive definite however it is damped.
    """
    share = damping
    while True:
        lower, failed = torch.linalg.cholesky_ex(damped(hessian, share))
        if not int(failed):
            upper: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
            return upper
        if share >= 1:
            raise CalibrationError(
                "the input statistics are not positive semidefinite; were they summed from x xᵀ?"
            )
        share = min(1.0, max(share * 10, 1e-6))


def solve(hessian: Tensor, right: Tensor, damping: float) -> Tensor:
    """(damped H)⁻¹ · right, in fp64; `right` is [cols, n]."""
    factor = inverse_factor(hessian, damping)
    return factor.T @ (factor @ right.double())
