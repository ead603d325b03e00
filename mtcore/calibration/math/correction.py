"""Correction: the weight that gives the original outputs from inputs that earlier rounding has changed."""

from __future__ import annotations

from torch import Tensor

from mtcore.calibration.math.factors import solve


def corrected_weight(weight: Tensor, hessian: Tensor, drift: Tensor, damping: float = 0.01) -> Tensor:
    """The W' that minimises Σ |W x - W' x̃|² + damping · mean(diag H) · |W' - W|².

    x is the input in the original model, x̃ the input that the layer gets in the quantized one. The minimum is
    W' = W + W R (H + λ)⁻¹. As Σ |W x - Q x̃|² differs from tr((Q - W') H (Q - W')ᵀ) by a constant (for λ = 0),
    rounding W' under H = Σ x̃ x̃ᵀ is rounding W under the real inputs. It is the exact form of the correction that
    Li et al. 2025, "GPTAQ" (arXiv:2504.02692) and Zhang et al. 2025, "Qronos" (arXiv:2505.11695) make on the way.

    Args:
        weight: W, [rows, cols].
        hessian: H = Σ x̃ x̃ᵀ, [cols, cols].
        drift: R = Σ (x - x̃) x̃ᵀ, [cols, cols].
        damping: how strongly W' is held to W.

    Returns:
        W', in the dtype of `weight`.
    """
    # (H + λ)⁻¹ is symmetric: W R (H + λ)⁻¹ = ((H + λ)⁻¹ (W R)ᵀ)ᵀ
    pulled = weight.double() @ drift.double()
    return (weight.double() + solve(hessian, pulled.T, damping).T).to(weight.dtype)
