"""A column alone is rounded as within its matrix."""

import pytest
import torch

from mtcore.calibration.math.columns import ColumnRounding
from mtcore.numerics import dynamic_qparams, fake_quantize

NAMES = ["int4_b32", "int4_b32_asym", "nvfp4", "fp8", "fp8_row", "mxfp4", "fp8_128x128", "int4_b128_fp8", "nf4"]


@pytest.mark.parametrize("name", NAMES)
def test_every_column_alone_equals_the_whole_matrix(formats, layer, name):
    x = layer(130, 140)[0]
    qparams = dynamic_qparams(x, formats[name])
    rounding = ColumnRounding(qparams, *x.shape)
    whole = fake_quantize(x, qparams)
    for j in (0, 1, 31, 32, 127, 128, 139, 5):
        assert torch.equal(rounding(x[:, j], j), whole[:, j])
