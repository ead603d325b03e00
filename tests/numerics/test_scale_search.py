"""The scale search finds the cheapest scale of every block."""

import pytest
import torch

from mtcore.calibration.math.errors import quadratic
from mtcore.errors import FormatError
from mtcore.formats import PER_ROW, PER_TENSOR, Block
from mtcore.numerics import block_amax, decode, fake_quantize, qparams_from_amax, tensor_amax
from mtcore.numerics.scale_search import best_amax, scaled_amax, squares, swept_amax


def outer(x, fmt):
    return tensor_amax(x) if fmt.outer is not None else None


def cost_of(x, fmt, amax, cost):
    return cost(fake_quantize(x, qparams_from_amax(amax, fmt, outer(x, fmt))) - x)


@pytest.mark.parametrize("name", ["int4_b128", "nvfp4", "fp8", "fp8_row", "int8_row", "mxfp4", "fp8_128x128"])
def test_every_block_gets_the_cheapest_candidate(formats, layer, name):
    fmt = formats[name]
    x = layer(5, 160)[0]
    cost = squares(fmt.block)
    candidates = scaled_amax(block_amax(x, fmt.block), 0.4, 1.2, 0.1)
    found = cost_of(x, fmt, best_amax(x, fmt, candidates, cost, outer(x, fmt)), cost)
    all_costs = torch.stack([cost_of(x, fmt, amax, cost) for amax in candidates])
    assert torch.equal(found, all_costs.amin(0))
    assert (found <= all_costs[0]).all()


def test_the_sweep_equals_trying_every_scale_code_by_brute_force(formats, layer):
    fmt = formats["nvfp4"]
    x = layer(4, 48)[0] * torch.tensor([[1.0], [0.3], [0.05], [2.0]])
    amax = block_amax(x, fmt.block)
    qparams = qparams_from_amax(amax, fmt, tensor_amax(x))
    found = best_amax(x, fmt, swept_amax(amax, fmt, tensor_amax(x)), squares(fmt.block), tensor_amax(x))
    costs = []
    for code in range(1, 127):
        scale = torch.full_like(amax, code).to(torch.uint8).view(torch.float8_e4m3fn)
        one = type(qparams)(fmt, scale, qparams.scale_2)
        costs.append(squares(fmt.block)(fake_quantize(x, one) - x))
    assert torch.equal(cost_of(x, fmt, found, squares(fmt.block)), torch.stack(costs).amin(0))


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "mxfp4_floor", "mxfp4_half_up", "mxfp8_e4m3_half_up", "mxint8"])
def test_a_swept_magnitude_gives_exactly_the_scale_code_it_was_made_for(formats, layer, name):
    fmt = formats[name]
    x = layer(3, 64)[0]
    amax, total = block_amax(x, fmt.block), outer(x, fmt)
    base = qparams_from_amax(amax, fmt, total).scale.view(torch.uint8).int()
    got = [
        qparams_from_amax(a, fmt, total).scale.view(torch.uint8).int() - base
        for a in swept_amax(amax, fmt, total, below=3, above=0)
    ]
    assert [d.unique().tolist() for d in got] == [[0], [-1], [-2], [-3]]


def test_swept_codes_stay_inside_the_element(formats):
    fmt = formats["nvfp4"]
    amax = torch.tensor([[1.0, 1e-9, 0.0]])
    total = torch.tensor(1.0)
    for candidate in swept_amax(amax, fmt, total, below=200, above=200):
        scale = decode(qparams_from_amax(candidate, fmt, total).scale, fmt.inner.element)
        assert scale[0, 2] == fmt.inner.zero_block
        assert ((scale > 0) & scale.isfinite()).all()


def test_fp32_scales_cannot_be_swept(formats):
    with pytest.raises(FormatError, match=r"int4_b128.*search multiples"):
        swept_amax(torch.ones(1, 1), formats["int4_b128"])


@pytest.mark.parametrize("bad", [(0, 1, 0.1), (1.2, 1.0, 0.1), (0.5, 1.0, 0), (0.5, float("inf"), 0.1)])
def test_a_senseless_range_is_refused(bad):
    with pytest.raises(ValueError, match="start ≤ stop"):
        scaled_amax(torch.ones(1, 1), *bad)


def test_no_candidate_is_refused(formats):
    with pytest.raises(ValueError, match="at least one"):
        best_amax(
            torch.ones(1, 128), formats["int4_b128"], torch.empty(0, 1, 1), squares(formats["int4_b128"].block)
        )


def test_a_nan_block_keeps_its_first_candidate(formats, layer):
    fmt = formats["int4_b128"]
    x = layer(2, 128)[0]
    x[0, 3] = torch.nan
    found = best_amax(x, fmt, scaled_amax(block_amax(x, fmt.block), 0.5, 1.0, 0.1), squares(fmt.block))
    assert found[0].isnan().all()
    assert found[1].isfinite().all()


def test_the_hessian_search_beats_the_plain_one_in_the_outputs_of_one_block(formats, layer):
    fmt = formats["nvfp4"]
    x, _, hessian = layer(40, 16, seed=3)
    total, amax = tensor_amax(x), block_amax(x, fmt.block)
    candidates = swept_amax(amax, fmt, total)
    exact = quadratic(fmt.block, hessian)
    by_hessian = cost_of(x, fmt, best_amax(x, fmt, candidates, exact, total), exact)
    by_squares = cost_of(x, fmt, best_amax(x, fmt, candidates, squares(fmt.block), total), exact)
    assert (by_hessian <= by_squares).all()
    assert by_hessian.sum() < by_squares.sum()


@pytest.mark.parametrize("block", [Block(1, 16), Block(2, 8), PER_ROW, PER_TENSOR, Block(4, 24)], ids=str)
def test_squares_adds_up_each_block_alone(layer, block):
    difference, importance = layer()[0], torch.arange(32.0)
    cost = squares(block, importance)(difference)
    high, wide = block.extents(6, 32)
    assert cost.shape == block.grid(6, 32)
    for i, j in [(0, 0), (cost.shape[0] - 1, cost.shape[1] - 1)]:
        rows, cols = slice(i * high, i * high + high), slice(j * wide, j * wide + wide)
        wanted = (difference[rows, cols].double() ** 2 * importance[cols].double()).sum()
        assert torch.allclose(cost[i, j].double(), wanted, rtol=1e-5)


def test_squares_of_a_block_in_a_row_are_summed_up_by_halves():
    """So that a kernel can add up in the same order: (a + c) + (b + d), here with what fp32 loses otherwise."""
    a, b, c, d = 2.0**12, 1.0, 1.0, 2.0**12
    cost = squares(Block(1, 4))(torch.tensor([[a, b, c, d]]))
    one = torch.tensor(1.0)
    assert cost.item() == float((one * a * a + c * c) + (one * b * b + d * d))
