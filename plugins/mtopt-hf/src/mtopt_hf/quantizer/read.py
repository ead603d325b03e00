"""From the tensors of one module in a file back to codes and scales: `mtopt_hf.ct.tensors` in reverse."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtcore.errors import ModelError
from mtcore.formats import TensorFormat
from mtcore.numerics import QParams, QTensor, pack, unpack
from mtopt_hf.quantizer.amax import scale_2_of

COMPANIONS = (
    "weight",
    "weight_packed",
    "weight_scale",
    "weight_global_scale",
    "weight_shape",
    "weight_zero_point",
    "input_scale",
    "input_global_scale",
)
"""Local names of the tensors that a module of the dialect may have for its weight and its input."""


def read_weight(parts: Mapping[str, Tensor], fmt: TensorFormat, dtype: torch.dtype) -> QTensor:
    """Codes and scales of one matrix.

    Args:
        parts: its tensors by local name.
        fmt: as the configuration says.
        dtype: of the weight that was quantized.

    Raises:
        ModelError: tensors are missing, or it has zero points.
    """
    if "weight_zero_point" in parts:
        raise ModelError(f"weights in {fmt.name} with zero points can be run by transformers itself only")
    try:
        rows, cols, codes = _codes(parts, fmt)
        scale = parts["weight_scale"]
        scale_2 = scale_2_of(parts["weight_global_scale"], fmt) if fmt.outer is not None else None
    except KeyError as error:
        raise ModelError(f"weights in {fmt.name} need a tensor {error} in the file") from error
    inner = scale.reshape(fmt.block.grid(rows, cols))
    inner = inner if inner.element_size() == 1 else inner.float()
    return QTensor(codes, QParams(fmt, inner, scale_2), rows, cols, torch.Size((rows, cols)), dtype)


def _codes(parts: Mapping[str, Tensor], fmt: TensorFormat) -> tuple[int, int, Tensor]:
    bits = fmt.element.bits
    if "weight" in parts:
        rows, cols = parts["weight"].shape
        return rows, cols, parts["weight"]
    packed = parts["weight_packed"]
    if packed.dtype == torch.uint8:
        return packed.shape[0], packed.shape[1] * 8 // bits, packed
    rows, cols = map(int, parts["weight_shape"].tolist())
    unsigned = unpack(packed.contiguous().view(torch.uint8), bits, packed.shape[1] * 32 // bits)[:, :cols]
    codes = unsigned.to(torch.int16) - (1 << (bits - 1))
    return rows, cols, codes.to(torch.int8) if bits == 8 else pack(codes.to(torch.uint8) & ((1 << bits) - 1), bits)
