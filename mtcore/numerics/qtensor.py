"""QTensor: a quantized tensor as plain data, codes and scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtcore.formats import TensorFormat
from mtcore.numerics.scaling import QParams


@dataclass(frozen=True)
class QTensor:
    """Codes and scales of one matrix: `x ≈ (qdata - zero_point) · scale · scale_2`.

    Attributes:
        qdata: codes [rows, cols]: int8 or float8 for 8-bit elements, else uint8 [rows, ceil(cols·bits/8)] packed
            along a row (see `pack`).
        qparams: the stored scales.
        shape: of the tensor that was quantized; its matrix view has `rows` × `cols`.
        dtype: of the tensor that was quantized.
    """

    qdata: Tensor
    qparams: QParams
    rows: int
    cols: int
    shape: torch.Size
    dtype: torch.dtype

    @property
    def format(self) -> TensorFormat:
        return self.qparams.format

    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name: qdata, scale, and scale_2 and zero_point where the format has them."""
        named = {
            "qdata": self.qdata,
            "scale": self.qparams.scale,
            "scale_2": self.qparams.scale_2,
            "zero_point": self.qparams.zero_point,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @property
    def size_bytes(self) -> int:
        """Bytes of all stored tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())
