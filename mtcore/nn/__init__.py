"""Quantizers and quantized layers: what a converted model is made of."""

from mtcore.nn.builtin import builtin_quant_modules
from mtcore.nn.channel_scale import ChannelScale
from mtcore.nn.derived import DerivedQuantModule
from mtcore.nn.low_rank_linear import LowRankLinear, branch_dtype
from mtcore.nn.matching import Match, match_spec, type_key
from mtcore.nn.packed_linear import PackedLinear
from mtcore.nn.packed_siblings import PackedSiblings, joinable
from mtcore.nn.quant_attention import AttentionQuantModule
from mtcore.nn.quant_bilinear import QuantBilinear
from mtcore.nn.quant_conv import (
    QuantConv1d,
    QuantConv2d,
    QuantConv3d,
    QuantConvTranspose1d,
    QuantConvTranspose2d,
    QuantConvTranspose3d,
)
from mtcore.nn.quant_embedding import QuantEmbedding, QuantEmbeddingBag
from mtcore.nn.quant_experts import ExpertsQuantModule
from mtcore.nn.quant_linear import QuantLinear
from mtcore.nn.quant_module import QuantModule, quantizer_name
from mtcore.nn.quant_multihead_attention import QuantMultiheadAttention
from mtcore.nn.quant_rnn import QuantGRU, QuantLSTM, QuantRNN
from mtcore.nn.quant_rnn_cell import QuantGRUCell, QuantLSTMCell, QuantRNNCell
from mtcore.nn.quantizer_state import QuantizerState
from mtcore.nn.rotation import Rotation
from mtcore.nn.spec import QuantModuleSpec, WeightSlot, input_slot
from mtcore.nn.stacked_quantizer import StackedQuantizer
from mtcore.nn.tensor_quantizer import Observer, TensorQuantizer
from mtcore.nn.views import ChannelView, MatrixView, TokenView, spread_blocks

__all__ = [
    "AttentionQuantModule",
    "ChannelScale",
    "ChannelView",
    "DerivedQuantModule",
    "ExpertsQuantModule",
    "LowRankLinear",
    "Match",
    "MatrixView",
    "Observer",
    "PackedLinear",
    "PackedSiblings",
    "QuantBilinear",
    "QuantConv1d",
    "QuantConv2d",
    "QuantConv3d",
    "QuantConvTranspose1d",
    "QuantConvTranspose2d",
    "QuantConvTranspose3d",
    "QuantEmbedding",
    "QuantEmbeddingBag",
    "QuantGRU",
    "QuantGRUCell",
    "QuantLSTM",
    "QuantLSTMCell",
    "QuantLinear",
    "QuantModule",
    "QuantModuleSpec",
    "QuantMultiheadAttention",
    "QuantRNN",
    "QuantRNNCell",
    "QuantizerState",
    "Rotation",
    "StackedQuantizer",
    "TensorQuantizer",
    "TokenView",
    "WeightSlot",
    "branch_dtype",
    "builtin_quant_modules",
    "input_slot",
    "joinable",
    "match_spec",
    "quantizer_name",
    "spread_blocks",
    "type_key",
]
