"""The tensors of one quantized linear layer, under the dialect's names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtcore.export import QuantizedModule
from mtcore.numerics import QParams, QTensor
from mtcore.plan import ModulePlan
from mtopt_hf.ct.scheme import Scheme, scheme_of

_CODES_PER_WORD = 4  # 8-bit codes in an int32
_OFFSET = 128  # pack-quantized stores value + 2^(bits - 1)


def module_tensors(module: QuantizedModule) -> dict[str, Tensor]:
    """Codes and scales of a module, by local name.

    With o rows and i columns of the weight (scales fp32 unless said otherwise):

    - float-quantized, int-quantized: `weight` float8 or int8 [o, i]; `weight_scale` [1] or [o, 1];
      `input_scale` [1] where the input is static.
    - pack-quantized: `weight_packed` int32 [o, ceil(i/4)], each code + 128, the first in the lowest byte;
      `weight_scale` [o, 1]; `weight_shape` int64 [2].
    - nvfp4-pack-quantized: `weight_packed` uint8 [o, i/2]; `weight_scale` float8_e4m3fn [o, i/16];
      `weight_global_scale` and, with a quantized input, `input_global_scale` [1]: reciprocals of our outer scales.
    """
    scheme = scheme_of(module.plan)
    return _weight(module.weights["weight"], scheme) | _input(module.activations.get("input"), scheme)


def tensor_names(module: ModulePlan) -> list[str]:
    """The local names of `module_tensors`, known from the plan alone."""
    scheme = scheme_of(module)
    match scheme.layout:
        case "nvfp4-pack-quantized":
            names = ["weight_packed", "weight_scale", "weight_global_scale"]
        case "pack-quantized":
            names = ["weight_packed", "weight_scale", "weight_shape"]
        case _:
            names = ["weight", "weight_scale"]
    if scheme.input is None or scheme.input["dynamic"] is True:
        return names
    return [*names, "input_global_scale" if scheme.input["dynamic"] == "local" else "input_scale"]


def divisor(scale_2: Tensor) -> Tensor:
    """The outer scale as the dialect stores it: its reciprocal, fp32 [1].

    Worked out in fp64 and rounded once. The client computes `scale / divisor` where we compute `scale · scale_2`,
    so its block scales differ from ours by at most 2 units in the last place of fp32: the reciprocal's rounding
    and the division's.
    """
    return (1.0 / scale_2.double()).float().reshape(1)


def _weight(q: QTensor, scheme: Scheme) -> dict[str, Tensor]:
    match scheme.layout:
        case "nvfp4-pack-quantized":
            assert q.qparams.scale_2 is not None
            return {
                "weight_packed": q.qdata,
                "weight_scale": q.qparams.scale,
                "weight_global_scale": divisor(q.qparams.scale_2),
            }
        case "pack-quantized":
            shape = torch.tensor([q.rows, q.cols])
            return {"weight_packed": _words(q.qdata), "weight_scale": q.qparams.scale, "weight_shape": shape}
        case _:
            per_tensor = scheme.weight["strategy"] == "tensor"
            scale = q.qparams.scale.reshape(1) if per_tensor else q.qparams.scale
            return {"weight": q.qdata, "weight_scale": scale}


def _input(qparams: QParams | None, scheme: Scheme) -> dict[str, Tensor]:
    if scheme.input is None or scheme.input["dynamic"] is True:
        return {}
    assert qparams is not None, "a calibrated input without scales"
    if scheme.input["dynamic"] == "local":
        assert qparams.scale_2 is not None
        return {"input_global_scale": divisor(qparams.scale_2)}
    return {"input_scale": qparams.scale.reshape(1)}


def _words(codes: Tensor) -> Tensor:
    """int8 codes [o, i] → int32 [o, ceil(i/4)], missing codes 0 as the library's packer leaves them."""
    unsigned = (codes.to(torch.int16) + _OFFSET).to(torch.uint8)
    return F.pad(unsigned, (0, -codes.shape[1] % _CODES_PER_WORD)).contiguous().view(torch.int32)
