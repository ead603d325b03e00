"""Quantizers and quantized layers: what a converted model is made of."""

from mtcore.nn.builtin import builtin_quant_modules
from mtcore.nn.matching import Match, match_spec, type_key
from mtcore.nn.quant_linear import QuantLinear
from mtcore.nn.quant_module import QuantModule, quantizer_name
from mtcore.nn.quantizer_state import QuantizerState
from mtcore.nn.rotation import Rotation
from mtcore.nn.spec import QuantModuleSpec, WeightSlot
from mtcore.nn.tensor_quantizer import Observer, TensorQuantizer
from mtcore.nn.views import ChannelView, MatrixView, TokenView

__all__ = [
    "ChannelView",
    "Match",
    "MatrixView",
    "Observer",
    "QuantLinear",
    "QuantModule",
    "QuantModuleSpec",
    "QuantizerState",
    "Rotation",
    "TensorQuantizer",
    "TokenView",
    "WeightSlot",
    "builtin_quant_modules",
    "match_spec",
    "quantizer_name",
    "type_key",
]
