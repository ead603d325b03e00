"""Low rank: the part of a weight that stays in 16 bits, so that what is rounded is small."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtcore.calibration.math.factors import damped


@dataclass(frozen=True)
class LowRankSplit:
    """W = rest + up · down; `up` is [rows, rank], `down` [rank, cols], `rest` [rows, cols]."""

    rest: Tensor
    up: Tensor
    down: Tensor


def low_rank_split(weight: Tensor, rank: int, hessian: Tensor | None = None, damping: float = 0.01) -> LowRankSplit:
    """Take the strongest `rank` directions out of a weight (Li et al. 2024, "SVDQuant", arXiv:2411.05007, eq. 8).

    Args:
        weight: fp32 [rows, cols].
        rank: at least 1; cut to the smaller side of the weight.
        hessian: Σ x xᵀ [cols, cols]; where given, strong means in the outputs: the split is the truncated SVD of
            W L with H = L Lᵀ, which minimises tr(rest H restᵀ) of all splits of this rank.
        damping: of the Hessian.

    Raises:
        ValueError: the rank is below 1.
    """
    if rank < 1:
        raise ValueError(f"a low-rank branch of rank {rank}: it must be at least 1")
    exact = weight.double()
    lower = None if hessian is None else torch.linalg.cholesky(damped(hessian, damping))
    seen = exact if lower is None else exact @ lower
    up, down = _strongest(seen, rank)
    if lower is not None:
        down = torch.linalg.solve_triangular(lower, down, upper=False, left=False)
    rest = exact - up @ down
    return LowRankSplit(rest.to(weight.dtype), up.to(weight.dtype), down.to(weight.dtype))


def _strongest(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """up [rows, rank] and down [rank, cols] whose product is the truncated SVD, each with half of every value.

    By the eigenvectors of the smaller of W Wᵀ and Wᵀ W, which takes a fifth of the time of an SVD. In fp64 squaring
    costs nothing that counts: the strongest directions are asked for, not the weakest.
    """
    rows, cols = matrix.shape
    if rows > cols:
        up, down = _strongest(matrix.T, rank)
        return down.T, up.T
    _, vectors = torch.linalg.eigh(matrix @ matrix.T)
    left = vectors.flip(1)[:, :rank]  # strongest first
    right = left.T @ matrix
    root = right.norm(dim=1).sqrt()
    return left * root, torch.where(root > 0, 1 / root, 0.0)[:, None] * right
