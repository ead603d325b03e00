"""The bit-exact specification of every cast, scale and packing, in plain torch.

All arithmetic is IEEE binary32 with round-to-nearest-even and true division; the amax of a block is taken on the
values as given; a result is cast to the caller's dtype once, at the end. Every function works on a matrix
[rows, cols]; `weight_matrix` and `token_matrix` say how other shapes are viewed as one.

A block whose amax is not finite gets a NaN scale and dequantizes to NaN throughout. With a finite, calibrated
scale, ±inf saturates, and NaN stays NaN where the element has a NaN and becomes 0 elsewhere.
"""

from mtcore.numerics.blocks import (
    block_amax,
    block_range,
    column_amax,
    from_blocks,
    own_column_amax,
    tensor_amax,
    to_blocks,
    token_matrix,
    weight_matrix,
)
from mtcore.numerics.cast import decode, encode, round_to_element
from mtcore.numerics.compiling import compile_time_constant
from mtcore.numerics.four_over_six import four_over_six_qparams
from mtcore.numerics.log_counts import LOG_BINS, log_counts
from mtcore.numerics.pack import pack, packed_cols, unpack
from mtcore.numerics.qtensor import QTensor
from mtcore.numerics.quantize import dequantize, fake_quantize, quantize
from mtcore.numerics.scaling import QParams, dynamic_qparams, qparams_from_amax, qparams_from_range

__all__ = [
    "LOG_BINS",
    "QParams",
    "QTensor",
    "block_amax",
    "block_range",
    "column_amax",
    "compile_time_constant",
    "decode",
    "dequantize",
    "dynamic_qparams",
    "encode",
    "fake_quantize",
    "four_over_six_qparams",
    "from_blocks",
    "log_counts",
    "own_column_amax",
    "pack",
    "packed_cols",
    "qparams_from_amax",
    "qparams_from_range",
    "quantize",
    "round_to_element",
    "tensor_amax",
    "to_blocks",
    "token_matrix",
    "unpack",
    "weight_matrix",
]
