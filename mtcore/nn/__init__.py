"""Quantizers and quantized layers: what a converted model is made of."""

from mtcore.nn.builtin import builtin_quant_modules
from mtcore.nn.matching import Match, match_spec, type_key
from mtcore.nn.quant_linear import QuantLinear
from mtcore.nn.quant_module import QuantModule, quantizer_name
from mtcore.nn.spec import QuantModuleSpec, WeightSlot
from mtcore.nn.tensor_quantizer import Observer, TensorQuantizer

__all__ = [
    "Match",
    "Observer",
    "QuantLinear",
    "QuantModule",
    "QuantModuleSpec",
    "TensorQuantizer",
    "WeightSlot",
    "builtin_quant_modules",
    "match_spec",
    "quantizer_name",
    "type_key",
]
