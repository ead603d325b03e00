"""The tensors of one quantized layer, under the dialect's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from mtcore.numerics import QParams, QTensor
from mtopt_hf.checkpoint.layer import Layer, LayerValues
from mtopt_hf.checkpoint.words import packed_words, words
from mtopt_hf.ct.scheme import Scheme, scheme_of

Made = Mapping[str, Callable[[], Tensor]]


def layer_tensors(layer: Layer, values: LayerValues) -> Made:
    """Codes and scales of a layer, by local name, made when they are asked for.

    With o rows and i columns of the weight, b bits, blocks of g columns (scales fp32 unless said otherwise):

    - float-quantized, int-quantized: `weight` float8 or int8 [o, i]; `weight_scale` [1], [o, 1] or, a tile of 128 x
      128 each, [ceil(o/128), ceil(i/128)]; `input_scale` [1] where the input is static.
    - pack-quantized: `weight_packed` int32 [o, ceil(i·b/32)], each code + 2^(b-1), dense, the first in the lowest
      bits; `weight_scale` [o, 1] or [o, i/g]; `weight_shape` int64 [2]; with zero points, `weight_zero_point` int32
      [ceil(o·b/32), 1 or i/g], packed likewise along o.
    - nvfp4-pack-quantized: `weight_packed` uint8 [o, i/2]; `weight_scale` float8_e4m3fn [o, i/16];
      `weight_global_scale` and, with a quantized input, `input_global_scale` [1]: reciprocals of our outer scales.
    - mxfp4-, mxfp6-pack-quantized: `weight_packed` uint8 [o, i·b/8]; mxfp8-quantized: `weight` float8 [o, i]; all
      of them `weight_scale` uint8 [o, i/32], exponents.
    """
    scheme = scheme_of(layer.weight, layer.input)
    return {**_weight(values.weight, scheme), **_input(values.input, scheme)}


def divisor(scale_2: Tensor) -> Tensor:
    """The outer scale as the dialect stores it: its reciprocal, fp32 [1].

    Worked out in fp64 and rounded once. The client computes `scale / divisor` where we compute `scale · scale_2`,
    so its block scales differ from ours by at most 2 units in the last place of fp32: the reciprocal's rounding
    and the division's.
    """
    return (1.0 / scale_2.double()).float().reshape(1)


def cache_scale(attention: str, slot: str, qparams: QParams) -> tuple[str, Tensor]:
    """The scale of keys, values or queries, fp32 [1]; of NVFP4 its divisor, for blocks have theirs at run time."""
    if qparams.scale_2 is None:
        return f"{attention}.{slot}_scale", qparams.scale.reshape(1)
    return f"{attention}.{slot}_global_scale", divisor(qparams.scale_2)


def _weight(q: QTensor, scheme: Scheme) -> Made:
    qparams = q.qparams
    match scheme.layout:
        case "nvfp4-pack-quantized":
            assert qparams.scale_2 is not None
            return {
                "weight_packed": lambda: q.qdata,
                "weight_scale": lambda: qparams.scale,
                "weight_global_scale": partial(divisor, qparams.scale_2),
            }
        case "mxfp4-pack-quantized" | "mxfp6-pack-quantized":
            return {"weight_packed": lambda: q.qdata, "weight_scale": lambda: qparams.scale}
        case "pack-quantized":
            words: dict[str, Callable[[], Tensor]] = {
                "weight_packed": partial(packed_words, q),
                "weight_scale": lambda: qparams.scale,
                "weight_shape": lambda: torch.tensor([q.rows, q.cols]),
            }
            if qparams.zero_point is not None:
                words["weight_zero_point"] = partial(_zero_points, q)
            return words
        case _:
            per_tensor = scheme.weight["strategy"] == "tensor"
            scale = qparams.scale.reshape(1) if per_tensor else qparams.scale
            return {"weight": lambda: q.qdata, "weight_scale": lambda: scale}


def _input(qparams: QParams | None, scheme: Scheme) -> Made:
    if scheme.input is None or scheme.input["dynamic"] is True:
        return {}
    assert qparams is not None, "a calibrated input without scales"
    if scheme.input["dynamic"] == "local":
        assert qparams.scale_2 is not None
        return {"input_global_scale": partial(divisor, qparams.scale_2)}
    scale = qparams.scale
    return {"input_scale": lambda: scale.reshape(1)}


def _zero_points(q: QTensor) -> Tensor:
    """Zero points [o, blocks] as words [ceil(o·b/32), blocks]: packed along the rows."""
    zero_point = q.qparams.zero_point
    assert zero_point is not None
    assert q.format.zero_point is not None
    return words(zero_point.to(torch.uint8).t(), q.format.zero_point.bits).t().contiguous()
