"""Four over six: the better scale of each block, stored as plain NVFP4."""

import pytest
import torch

from mtcore.errors import FormatError
from mtcore.formats.catalog import FP8, MXFP4, NVFP4
from mtcore.numerics import dequantize, dynamic_qparams, fake_quantize, four_over_six_qparams, quantize


def weight(rows=64, cols=256, seed=0):
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def squared_error(x, qparams):
    return (fake_quantize(x, qparams) - x).double().square().view(-1, 16).sum(-1)


def test_every_block_gets_the_better_of_its_two_scales():
    x = weight()
    chosen = four_over_six_qparams(x, NVFP4)
    g = x.abs().max() / (6 * 256)
    assert torch.equal(chosen.scale_2, g)
    amax = x.view(64, 16, 16).abs().amax(-1)
    scales = [(amax / (target * g)).to(torch.float8_e4m3fn) for target in (6, 4)]
    as_bytes = [scale.view(torch.uint8) for scale in scales]
    taken = chosen.scale.view(torch.uint8)
    assert ((taken == as_bytes[0]) | (taken == as_bytes[1])).all()
    six, four = (squared_error(x, type(chosen)(NVFP4, scale, g)) for scale in scales)
    clear = ((six - four).abs() > 1e-6 * six).view(64, 16)  # fp32 sums of 16 terms: 16 * 2^-24 relative, at most
    assert torch.equal((taken == as_bytes[1])[clear], (four < six).view(64, 16)[clear])
    assert 0.2 < (four < six).double().mean() < 0.8


def test_it_lowers_the_error_of_plain_nvfp4():
    x = weight(seed=1)
    assert (
        squared_error(x, four_over_six_qparams(x, NVFP4)).sum() < squared_error(x, dynamic_qparams(x, NVFP4)).sum()
    )


def test_no_scale_is_clamped_for_want_of_range():
    x = weight(seed=2)
    x[0, 0] = 50.0
    scales = four_over_six_qparams(x, NVFP4).scale.float()
    assert scales.max() <= 384


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_what_is_stored_is_plain_nvfp4(dtype):
    x = weight(5, 40).to(dtype)
    qparams = four_over_six_qparams(x, NVFP4)
    assert qparams.format == NVFP4
    assert torch.equal(fake_quantize(x, qparams), dequantize(quantize(x, qparams)))


def test_zero_blocks_ragged_edges_and_bad_values_are_as_in_plain_nvfp4():
    x = weight(3, 40)
    x[0, :16] = 0.0
    x[1, 3] = torch.nan
    scale = four_over_six_qparams(x, NVFP4, outer_amax=torch.tensor(3.0)).scale.float()
    assert scale.shape == (3, 3)
    assert scale[0, 0] == 1.0
    assert scale[1, 0].isnan()
    assert scale[2].isfinite().all()
    assert four_over_six_qparams(torch.zeros(0, 32), NVFP4).scale.shape == (0, 2)


def test_a_known_outer_amax_is_used():
    x = weight()
    assert four_over_six_qparams(x, NVFP4, torch.tensor(1536.0)).scale_2 == 1.0


def test_a_matrix_cut_into_bands_gives_the_same_scales():
    x = weight(300, 1024)
    whole = four_over_six_qparams(x, NVFP4)
    for start in range(0, 300, 50):
        part = four_over_six_qparams(x[start : start + 50], NVFP4, x.abs().max())
        assert torch.equal(part.scale.view(torch.uint8), whole.scale[start : start + 50].view(torch.uint8))


@pytest.mark.parametrize("fmt", [FP8, MXFP4], ids=lambda f: f.name)
def test_formats_without_two_levels_are_refused(fmt):
    with pytest.raises(FormatError, match="two levels"):
        four_over_six_qparams(weight(), fmt)
