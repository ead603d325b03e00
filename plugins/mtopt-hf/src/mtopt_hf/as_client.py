"""What transformers computes from a checkpoint of ours where that is not what the servers and `numerics` compute.

Read in compressed-tensors 0.20 (`quantization/utils/helpers.py`, `quantization/lifecycle/forward_helpers.py`,
`compressors/nvfp4/`) and transformers 5.23 (`integrations/compressed_tensors.py`). Codes of weights and all scales
of a file are taken as they are; the client has its own arithmetic for the rest:

- NVFP4: a block's scale is `scale / divisor`, the divisor being the file's reciprocal of our `scale_2`. Weights
  are rounded to bf16. The scale of a block of an input is `e4m3(divisor · (amax / 6))`, 1/8 where that is zero.
- MX: the scale of a block of an input is the power of two below its amax, or above it where the mantissa is 1.75
  or more, over the largest power of two of the element: `rounded_half_up` of the catalog. Ours (NVIDIA's) is
  rounded up.
- INT8 at run time: amax / 127.5, and codes down to -128. FP8 and INT8 of tokens: where the input has two axes, all
  tokens share one scale.
- What goes into experts that transformers merges is not quantized; it is where it takes them apart (Llama 4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mtcore.formats import PER_ROW, Float32Element, FloatElement, IntElement, PowerOfTwoElement, TensorFormat
from mtcore.formats.catalog import builtin_formats
from mtcore.nn import QuantModule, TensorQuantizer
from mtcore.numerics import QParams, block_amax, dequantize, fake_quantize, qparams_from_amax, round_to_element
from mtcore.quantization import quantized_of
from mtopt_hf.checkpoint.apart import opened_by_transformers
from mtopt_hf.ct.tensors import divisor

ZERO_BLOCK = 0.125
"""What the client takes for the scale of an NVFP4 block whose own is zero."""

STEP = 2.0**-20
"""Numbers that differ by less than this share of them have one code, under scales that differ in their last bits.
One step of the finest format, INT8, is 1/128 of a number or more."""


@dataclass(frozen=True)
class Departure:
    """How many values of quantized inputs a model rounded, and how many the client's rules made another number."""

    values: int
    other: int


def compute_as_transformers(model: nn.Module, *, experts_bare: bool = False) -> None:
    """Change a quantized model so that it computes what transformers does from its compressed-tensors checkpoint.

    Weights are overwritten, and the quantizers of inputs replaced; there is no way back. `departure` then tells how
    many values of the inputs of forwards were rounded otherwise than before.

    Args:
        experts_bare: NVFP4 experts that it merges lack their outer scale, as it opens them; else they are what the
            file says.
    """
    for planned in quantized_of(model).plan.quantized:
        module = model.get_submodule(planned.name)
        assert isinstance(module, QuantModule)
        for slot, quantizer in list(module.quantizers()):
            merged = planned.spec == "experts" and not opened_by_transformers(module, model.config)
            if quantizer.is_weight:
                _overwrite(module.weight_of(slot), quantizer, bare=merged and experts_bare)
            elif merged:
                quantizer.disable()
            elif slot == "input" or planned.spec == "experts":
                module.add_module(module.slots[slot], ClientInput(quantizer))


def departure(model: nn.Module) -> Departure:
    """What the forwards since `compute_as_transformers` made of inputs."""
    inputs = [module for module in model.modules() if isinstance(module, ClientInput)]
    return Departure(sum(one.values for one in inputs), sum(one.other for one in inputs))


class ClientInput(nn.Module):
    """Rounds an input under the client's scales, and counts where `quantizer` gives another number.

    Attributes:
        quantizer: how the input is rounded by `numerics`; calibrated.
        values, other: see `Departure`.
    """

    def __init__(self, quantizer: TensorQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.values = self.other = 0

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.quantizer.matrix(x)
        theirs = fake_quantize(matrix, client_qparams(x, self.quantizer))
        ours = fake_quantize(matrix, self.quantizer.qparams(x))
        self.values += ours.numel()
        self.other += int(((ours - theirs).abs() > STEP * ours.abs()).sum())
        return self.quantizer.view.from_matrix(theirs.to(x.dtype), x)


def client_qparams(x: Tensor, quantizer: TensorQuantizer) -> QParams:
    """The scales that the client gives an input; fp32 where it divides by the outer level of NVFP4."""
    fmt, matrix = quantizer.format, quantizer.matrix(x)
    if quantizer.mode == "dynamic_blocks":
        scale_2 = quantizer.qparams(x).scale_2
        assert scale_2 is not None
        return _over_divisor(_nvfp4_scale(block_amax(matrix, fmt.block), fmt, divisor(scale_2)), fmt, scale_2)
    if quantizer.mode == "static":
        return quantizer.qparams(x)
    amax = block_amax(matrix, fmt.block)
    if fmt.block == PER_ROW and x.dim() == 2:
        amax = amax.amax().expand_as(amax)
    return qparams_from_amax(amax, _client_format(fmt))


def _overwrite(weight: Tensor, quantizer: TensorQuantizer, *, bare: bool = False) -> None:
    """The values that the client decodes, without the outer scale where `bare`; the quantizer is switched off."""
    coded = quantizer.quantize(weight)
    if coded.qparams.scale_2 is not None:
        scale = coded.qparams.scale.float()
        outer = torch.ones_like(coded.qparams.scale_2) if bare else coded.qparams.scale_2
        coded = replace(coded, qparams=_over_divisor(scale, coded.format, outer))
        values = dequantize(coded, torch.bfloat16)
    else:
        values = dequantize(coded)
    with torch.no_grad():
        weight.copy_(quantizer.view.from_matrix(values.reshape(coded.rows, coded.cols).to(weight.dtype), weight))
    quantizer.disable()


def _nvfp4_scale(amax: Tensor, fmt: TensorFormat, outer: Tensor) -> Tensor:
    """The block scales of an input as fp32 values of E4M3, [grid rows, grid cols]."""
    element = fmt.inner.element
    assert isinstance(element, FloatElement)
    scale = round_to_element(outer * (amax / torch.full_like(amax, fmt.target)), element)
    return torch.where(scale == 0, ZERO_BLOCK, scale)


def _over_divisor(scale: Tensor, fmt: TensorFormat, scale_2: Tensor) -> QParams:
    """Both levels as the one fp32 scale by which the client divides and multiplies."""
    one_level = replace(fmt, scales=(replace(fmt.inner, element=Float32Element(), smallest=None),))
    return QParams(one_level, scale / divisor(scale_2))


def _client_format(fmt: TensorFormat) -> TensorFormat:
    """The format whose rule for scales at run time is the client's."""
    if isinstance(fmt.inner.element, PowerOfTwoElement):
        return next(one for one in builtin_formats() if one.name == f"{fmt.name}_half_up")
    if isinstance(fmt.element, IntElement):
        full = replace(fmt.element, narrow=False)
        return replace(fmt, element=full, amax_to=full.max + full.step / 2)
    return fmt
