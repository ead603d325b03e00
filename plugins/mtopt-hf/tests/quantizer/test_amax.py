"""From scales back to magnitudes: exact for every scale that a magnitude gives."""

import pytest
import torch

from mtcore.formats import builtin_formats
from mtcore.numerics import dynamic_qparams, qparams_from_amax
from mtopt_hf.ct.tensors import divisor
from mtopt_hf.quantizer.amax import amax_of, outer_amax_of, scale_2_of

FORMATS = {fmt.name: fmt for fmt in builtin_formats()}
NAMES = ("fp8", "fp8_row", "int8", "int8_row", "int4_b32", "int4_b128", "nvfp4", "mxfp4", "mxfp8_e4m3")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e-4, 1.0, 300.0])
def test_the_magnitudes_give_the_scales_that_they_were_worked_out_from(name, size):
    fmt = FORMATS[name]
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(3)) * size
    x[3] = 0
    scales = dynamic_qparams(x, fmt)
    outer = None if scales.scale_2 is None else outer_amax_of(scales.scale_2, fmt)
    again = qparams_from_amax(amax_of(scales), fmt, outer)
    assert torch.equal(again.scale.view(torch.uint8), scales.scale.view(torch.uint8))
    if scales.scale_2 is not None:
        assert torch.equal(again.scale_2, scales.scale_2)


def test_a_divisor_comes_out_again_whatever_magnitude_it_was_made_of():
    fmt = FORMATS["nvfp4"]
    for amax in torch.rand(200, generator=torch.Generator().manual_seed(4)) * 30:
        made = qparams_from_amax(amax.reshape(1, 1), fmt, amax).scale_2
        again = scale_2_of(divisor(made), fmt)
        assert torch.equal(divisor(again), divisor(made))
        assert torch.equal(qparams_from_amax(amax.reshape(1, 1), fmt, outer_amax_of(again, fmt)).scale_2, again)
