"""Rotation: an orthonormal Hadamard transform of the features in front of a quantizer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mtcore.errors import FormatError
from mtcore.numerics.hadamard import block_hadamard


@dataclass(frozen=True)
class Rotation:
    """Multiply the features by a Hadamard matrix before rounding.

    Outliers of one feature are spread over `size` of them. Two quantizers that meet in a product of their features
    (input and weight of a linear layer, q and k) need the same rotation and no way back, for the rotations cancel;
    elsewhere (v, output) the quantizer rotates back after rounding.

    Attributes:
        size: features that are rotated together; the whole axis where None.
        back: rotate back after rounding.
    """

    size: int | None = None
    back: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise FormatError(f"a rotation of {self.size} features")

    def forward(self, matrix: Tensor) -> Tensor:
        """The rotated matrix [rows, cols], in its dtype."""
        return block_hadamard(matrix, self.size or matrix.shape[-1])

    def backward(self, matrix: Tensor) -> Tensor:
        """The inverse of `forward`, up to rounding."""
        return block_hadamard(matrix, self.size or matrix.shape[-1], inverse=True)
