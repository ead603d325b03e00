"""Which kernel multiplies FP8: the one that was measured to be the fastest for a size."""

import pytest
import torch

from mtopt_kernels.fp8 import fp8_way

BF16, FP16 = torch.bfloat16, torch.float16


@pytest.mark.parametrize(
    ("tokens", "features", "inner", "dtype", "by", "way"),
    [
        (1, 4096, 4096, BF16, "tensor", "few"),
        (64, 4096, 14336, BF16, "tensor", "torch"),
        (64, 4096, 14336, BF16, "row", "few"),
        (512, 28672, 8192, BF16, "tensor", "torch"),
        (512, 28672, 8192, BF16, "row", "torch by row"),
        (4096, 14336, 4096, BF16, "tensor", "torch by row"),
        (8192, 4096, 14336, BF16, "tensor", "torch"),
        (8192, 4096, 14336, BF16, "row", "torch by row"),
        (8192, 4096, 14336, BF16, "block", "torch"),
        (1, 4096, 4096, BF16, "block", "few"),
        (513, 4096, 4096, BF16, "block", "many"),
        (512, 4096, 128, BF16, "block", "many"),
        (512, 4096, 11008, BF16, "block", "many"),
        (512, 4096, 4096, FP16, "tensor", "many"),
        (512, 4096, 4096, torch.float32, "tensor", "few"),
        (512, 4096, 4100, BF16, "tensor", "few"),
        (0, 4096, 4096, BF16, "tensor", "few"),
    ],
)
def test_a_product_in_fp8_is_computed_by_what_takes_its_sizes_fastest(tokens, features, inner, dtype, by, way):
    assert fp8_way(tokens, features, inner, dtype, by) == way
