"""The tensors of one quantized layer, under the dialect's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from mtcore.numerics import QParams, QTensor
from mtopt_hf.checkpoint.attention import QUERY
from mtopt_hf.checkpoint.layer import Layer, LayerValues
from mtopt_hf.checkpoint.words import paired_rows
from mtopt_hf.modelopt.scheme import spelling_of
from mtopt_hf.modelopt.spelling import CACHE, Spelling

Made = Mapping[str, Callable[[], Tensor]]


def layer_tensors(layer: Layer, values: LayerValues) -> Made:
    """Codes and scales of a layer, by local name, made when they are asked for.

    With o rows and i columns of the weight and blocks of g columns (scales fp32 unless said otherwise):

    - `weight`: float8 or int8 [o, i]; 4-bit floats uint8 [o, i/2], the even column in the low bits; INT4 uint8
      [o/2, i], two's complement, the even row in the low bits.
    - `weight_scale`: [], [o], [o/128, 1, i/128, 1] or [o, i/g]; NVFP4 float8_e4m3fn, MX formats uint8 exponents.
    - `weight_scale_2`: [], where the format has an outer scale.
    - `input_scale`: [], where the input has a calibrated scale.
    - `pre_quant_scale`: [i] in the dtype of the weight before, which clients demand, where the layer has one or
      clients look for one.
    - `svdquant_lora_a` [rank, i], `svdquant_lora_b` [o, rank]: the low-rank branch, as it is.
    """
    spelling = spelling_of(layer.weight, layer.input)
    return {**_weight(values.weight, spelling), **_input(values.input), **_extras(values, spelling)}


def cache_scale(attention: str, slot: str, qparams: QParams) -> tuple[str, Tensor]:
    """The scale of keys, values or queries, fp32 []: amax / 448 in every format, for NVFP4 6 of its outer scales.

    ModelOpt's exporter divides by the largest FP8 value whatever the cache's format. It has none for queries: that
    name is the one under which vLLM looks for it.
    """
    place = attention if slot == QUERY else f"{attention}.{slot}_proj"
    return f"{place}.{slot}_scale", _amax_scale(qparams)


def _amax_scale(qparams: QParams) -> Tensor:
    if qparams.scale_2 is None:
        return qparams.scale.reshape(())
    amax = qparams.scale_2.double() * qparams.format.outer_target
    return (amax / CACHE["FP8"].element.max).float().reshape(())


def _weight(q: QTensor, spelling: Spelling) -> Made:
    qparams = q.qparams
    codes = partial(paired_rows, q) if spelling.layout == "int4" else lambda: q.qdata
    made: dict[str, Callable[[], Tensor]] = {"weight": codes, "weight_scale": partial(_scale, qparams, spelling)}
    scale_2 = qparams.scale_2
    if scale_2 is not None:
        made["weight_scale_2"] = lambda: scale_2.reshape(())
    return made


def _scale(qparams: QParams, spelling: Spelling) -> Tensor:
    match spelling.scale:
        case "tensor":
            return qparams.scale.reshape(())
        case "row":
            return qparams.scale.reshape(-1)
        case "tile":
            return qparams.scale[:, None, :, None]
        case _:
            return qparams.scale


def _input(qparams: QParams | None) -> Made:
    if qparams is None:
        return {}
    scale = qparams.scale if qparams.scale_2 is None else qparams.scale_2
    return {"input_scale": lambda: scale.reshape(())}


def _extras(values: LayerValues, spelling: Spelling) -> Made:
    q, scale, branch = values.weight, values.pre_quant_scale, values.low_rank
    made: dict[str, Callable[[], Tensor]] = {}
    if scale is not None:
        made["pre_quant_scale"] = lambda: scale.to(q.dtype)
    elif spelling.smoothed:
        made["pre_quant_scale"] = lambda: torch.ones(q.cols, dtype=q.dtype, device=q.qdata.device)
    if branch is not None:
        made |= {"svdquant_lora_a": lambda: branch.down, "svdquant_lora_b": lambda: branch.up}
    return made
