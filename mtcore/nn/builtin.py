"""The quantized layers that mtcore brings."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.nn.input_layers import INPUT_LAYERS
from mtcore.nn.low_rank_linear import LINEAR
from mtcore.nn.quant_attention import ATTENTION
from mtcore.nn.quant_bilinear import BILINEAR
from mtcore.nn.quant_conv import CONVOLUTIONS
from mtcore.nn.quant_embedding import EMBEDDINGS
from mtcore.nn.quant_experts import EXPERTS
from mtcore.nn.quant_multihead_attention import MULTIHEAD_ATTENTION
from mtcore.nn.quant_rnn import RECURRENT
from mtcore.nn.quant_rnn_cell import CELLS
from mtcore.nn.spec import QuantModuleSpec


def builtin_quant_modules() -> Iterator[QuantModuleSpec]:
    """The records of torch's own layers, and of what the trace finds in modules of any class."""
    yield LINEAR
    yield BILINEAR
    yield from CONVOLUTIONS
    yield from RECURRENT
    yield from CELLS
    yield MULTIHEAD_ATTENTION
    yield from EMBEDDINGS
    yield from INPUT_LAYERS
    yield ATTENTION
    yield EXPERTS
