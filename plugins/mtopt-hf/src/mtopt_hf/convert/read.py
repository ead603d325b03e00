"""From the tensors of one layer in a file to codes and scales: every dialect's writer in reverse, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtcore.errors import ModelError
from mtcore.formats import IntElement, TensorFormat
from mtcore.numerics import QParams, QTensor, pack, unpack
from mtopt_hf.autoawq.spelling import ORDER
from mtopt_hf.checkpoint.layer import LayerValues
from mtopt_hf.convert.formats import Formats

Parts = Mapping[str, Tensor]


def read_layer(method: str, parts: Parts, formats: Formats, dtype: torch.dtype, version: str = "") -> LayerValues:
    """Codes and scales of a layer.

    Args:
        method: the dialect.
        parts: its tensors by local name.
        formats: as the configuration says; of integers whose zero points all lie in the middle, symmetric.
        dtype: of the weight before.
        version: of a GPTQ file: "gptq", whose zero points are stored minus one, or "gptq_v2".

    Raises:
        ModelError: they have something that no other dialect can hold.
    """
    match method:
        case "compressed-tensors":
            weight = _compressed_tensors(parts, formats.weight, dtype)
        case "modelopt":
            weight = _modelopt(parts, formats.weight, dtype)
        case "fp8":
            weight = _plain(parts["weight"], parts["weight_scale_inv"].float(), None, formats.weight, dtype)
        case "gptq":
            weight = _gptq(parts, formats.weight, dtype, version)
        case _:
            weight = _awq(parts, formats.weight, dtype)
    return LayerValues(weight, _input(parts, formats), _ones(parts.get("pre_quant_scale")))


def zero_points(method: str, parts: Parts, bits: int, version: str = "") -> Tensor:
    """The unsigned codes of zero of a layer of integers, uint8 [o, blocks].

    Raises:
        ModelError: readers do not agree on one of them.
    """
    if method == "compressed-tensors":
        scale = parts["weight_scale"]
        return _zeros_of_words(parts, bits, scale.reshape(len(parts["weight_packed"]), -1))
    if method == "awq":
        return _straight(parts["qzeros"])
    stored = unpack(_bytes(parts["qzeros"]), bits, parts["scales"].shape[1]).t().contiguous()
    if version == "gptq_v2":
        return stored
    if bool((stored == 2**bits - 1).any()):
        raise ModelError("a zero point of version 1 is stored as -1, which readers take for 0 or for 2^bits")
    return stored + 1


def reciprocal(value: Tensor) -> Tensor:
    """1 / value, worked out in fp64 and rounded once to fp32 []."""
    return (1.0 / value.double()).float().reshape(())


def _plain(codes: Tensor, scale: Tensor, scale_2: Tensor | None, fmt: TensorFormat, dtype: torch.dtype) -> QTensor:
    """Codes [o, i], or [o, i·b/8] packed along a row as mtcore has them."""
    rows, cols = codes.shape[0], codes.shape[1] * (1 if fmt.element.bits == 8 else 8) // _bits(fmt)
    qparams = QParams(fmt, scale.reshape(fmt.block.grid(rows, cols)), scale_2)
    return QTensor(codes, qparams, rows, cols, torch.Size((rows, cols)), dtype)


def _bits(fmt: TensorFormat) -> int:
    return 1 if fmt.element.bits == 8 else fmt.element.bits


def _compressed_tensors(parts: Parts, fmt: TensorFormat, dtype: torch.dtype) -> QTensor:
    scale = parts["weight_scale"]
    scale = scale if scale.element_size() == 1 else scale.float()
    if "weight_shape" in parts:
        return _words(parts, fmt, scale, dtype)
    outer = None if fmt.outer is None else reciprocal(parts["weight_global_scale"])
    return _plain(parts["weight_packed" if "weight_packed" in parts else "weight"], scale, outer, fmt, dtype)


def _words(parts: Parts, fmt: TensorFormat, scale: Tensor, dtype: torch.dtype) -> QTensor:
    group = parts.get("weight_g_idx")
    if group is not None and not _in_order(group, fmt.block.cols):
        raise ModelError("its columns are in the order of their activations (weight_g_idx)")
    (rows, cols), bits = map(int, parts["weight_shape"].tolist()), fmt.element.bits
    codes = unpack(_bytes(parts["weight_packed"]), bits, cols)
    scale = scale.reshape(fmt.block.grid(rows, cols))
    return _integers(codes, scale, _zeros_of_words(parts, bits, scale), fmt, dtype)


def _zeros_of_words(parts: Parts, bits: int, scale: Tensor) -> Tensor:
    if "weight_zero_point" not in parts:
        return torch.full(scale.shape, 1 << (bits - 1), dtype=torch.uint8)
    return unpack(_bytes(parts["weight_zero_point"].t()), bits, len(scale)).t().contiguous()


def _modelopt(parts: Parts, fmt: TensorFormat, dtype: torch.dtype) -> QTensor:
    codes, scale = parts["weight"], parts["weight_scale"]
    scale = scale if scale.element_size() == 1 else scale.float()
    outer = parts["weight_scale_2"].float().reshape(()) if "weight_scale_2" in parts else None
    if isinstance(fmt.element, IntElement) and fmt.element.bits == 4:
        pairs = codes.view(torch.uint8)
        rows = torch.stack((pairs & 15, pairs >> 4), dim=1).reshape(-1, pairs.shape[1])
        return _plain(pack(rows.contiguous(), 4), scale, outer, fmt, dtype)
    return _plain(codes, scale, outer, fmt, dtype)


def _gptq(parts: Parts, fmt: TensorFormat, dtype: torch.dtype, version: str) -> QTensor:
    if "g_idx" in parts and not _in_order(parts["g_idx"], fmt.block.cols):
        raise ModelError("its columns are in the order of their activations (g_idx)")
    bits, scale = fmt.element.bits, parts["scales"].float().t().contiguous()
    codes = unpack(_bytes(parts["qweight"].t()), bits, parts["qweight"].shape[0] * 32 // bits)
    return _integers(codes, scale, zero_points("gptq", parts, bits, version), fmt, dtype)


def _awq(parts: Parts, fmt: TensorFormat, dtype: torch.dtype) -> QTensor:
    scale = parts["scales"].float().t().contiguous()
    return _integers(_straight(parts["qweight"]), scale, zero_points("awq", parts, 4), fmt, dtype)


def _straight(words: Tensor) -> Tensor:
    """int32 [n, o/8] in AutoAWQ's order → codes uint8 [o, n]."""
    stored = unpack(_bytes(words), 4, words.shape[1] * 8).reshape(len(words), -1, len(ORDER))
    codes = torch.empty_like(stored)
    codes[:, :, list(ORDER)] = stored
    return codes.reshape(len(words), -1).t().contiguous()


def _integers(codes: Tensor, scale: Tensor, zero: Tensor, fmt: TensorFormat, dtype: torch.dtype) -> QTensor:
    """Unsigned codes uint8 [o, i] and zero points uint8 [o, blocks]; a symmetric format has them all in the middle.

    Raises:
        ModelError: a symmetric format, and zero points elsewhere.
    """
    bits, half = fmt.element.bits, 1 << (fmt.element.bits - 1)
    rows, cols = codes.shape
    if fmt.symmetric:
        if bool((zero != half).any()):
            raise ModelError("it is declared symmetric, but has zero points")
        codes = codes ^ half
    packed = pack(codes.contiguous(), bits) if bits != 8 else codes.contiguous()
    packed = packed.view(torch.int8) if bits == 8 and fmt.symmetric else packed
    points = None if fmt.symmetric else zero.to(torch.int16)
    return QTensor(packed, QParams(fmt, scale, None, points), rows, cols, torch.Size((rows, cols)), dtype)


def _input(parts: Parts, formats: Formats) -> QParams | None:
    if formats.input is None or formats.input[1] == "dynamic":
        return None
    fmt, _ = formats.input
    if fmt.outer is None:
        return QParams(fmt, parts["input_scale"].float().reshape(1, 1))
    divisor = parts.get("input_global_scale")
    outer = parts["input_scale"].float().reshape(()) if divisor is None else reciprocal(divisor)
    return QParams(fmt, torch.ones((1, 1)).to(torch.float8_e4m3fn), outer)  # only the outer scale is stored


def _ones(scale: Tensor | None) -> Tensor | None:
    """None for a scale of ones, which only fills a place that a client looks at."""
    return None if scale is None or bool((scale == 1).all()) else scale.float()


def _in_order(group: Tensor, size: int) -> bool:
    return torch.equal(group.long(), torch.arange(len(group)) // size)


def _bytes(words: Tensor) -> Tensor:
    """Words int32 [rows, n] → bytes uint8 [rows, 4·n]."""
    return words.contiguous().view(torch.uint8)
