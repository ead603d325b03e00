"""GPTQ equals its definition, gives codes that survive, and beats plain rounding."""

import pytest
import torch

from mtcore.calibration.math.errors import output_error
from mtcore.calibration.math.factors import damped
from mtcore.calibration.math.gptq import column_order, gptq
from mtcore.calibration.math.gptq_steps import BlockOrder
from mtcore.errors import CalibrationError, FormatError
from mtcore.numerics import block_amax, fake_quantize, qparams_from_amax, quantize, tensor_amax
from mtcore.numerics.scale_search import best_amax, scaled_amax, squares

NAMES = ["int4_b32", "nvfp4", "fp8", "fp8_row", "int8_row", "mxfp4", "fp8_128x128", "int4_b128_fp8", "nf4"]


def scales(weight, fmt):
    return block_amax(weight, fmt.block), tensor_amax(weight) if fmt.outer is not None else None


def by_definition(weight, hessian, fmt, amax, outer, order):
    """Optimal brain quantization in fp64: after each column, solve for the best values of all that are left."""
    exact = damped(hessian, 0.01)
    work = weight.double().clone()
    columns = order.tolist()
    qparams = qparams_from_amax(amax, fmt, outer)
    for place, j in enumerate(columns):
        rounded = fake_quantize(work.float(), qparams).double()[:, j]
        error = work[:, j] - rounded
        left = columns[place + 1 :]
        work[:, j] = rounded
        if left:
            inverse = torch.linalg.inv(exact[left][:, left])
            work[:, left] += error[:, None] * (exact[j, left] @ inverse)
    return work.float()


@pytest.mark.parametrize("order", ["given", "importance", "blocks"])
@pytest.mark.parametrize("name", NAMES)
def test_it_equals_the_definition(formats, layer, name, order):
    fmt = formats[name]
    weight, _, hessian = layer(4, 40)
    amax, outer = scales(weight, fmt)
    found = gptq(weight, hessian, fmt, amax, outer, order=order, step=16)
    wide = fmt.block.extents(4, 40)[1]
    wanted = by_definition(weight, hessian, fmt, amax, outer, column_order(hessian.diagonal(), wide, order))
    # Other roundings on the way may tip single ties; a flipped code moves later columns, so only few may differ.
    assert (found.weight != wanted).float().mean() <= 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [n for n in NAMES if n != "int4_b128_fp8"])
def test_its_values_quantize_to_the_same_codes_again(formats, layer, name, dtype):
    fmt = formats[name]
    weight, _, hessian = layer(8, 64)
    amax, outer = scales(weight, fmt)
    found = gptq(weight, hessian, fmt, amax, outer)
    qparams = qparams_from_amax(found.amax, fmt, outer)
    exact, stored = quantize(found.weight, qparams), quantize(found.weight.to(dtype), qparams)
    assert torch.equal(fake_quantize(found.weight, qparams), found.weight)
    assert torch.equal(exact.qdata.view(torch.uint8), stored.qdata.view(torch.uint8))


@pytest.mark.parametrize("order", ["given", "importance", "blocks"])
@pytest.mark.parametrize("name", NAMES)
def test_it_beats_plain_rounding(formats, layer, name, order):
    fmt = formats[name]
    weight, _, hessian = layer(32, 64)
    amax, outer = scales(weight, fmt)
    plain = fake_quantize(weight, qparams_from_amax(amax, fmt, outer))
    found = gptq(weight, hessian, fmt, amax, outer, order=order)
    assert output_error(found.weight - weight, hessian) < output_error(plain - weight, hessian)


@pytest.mark.parametrize("order", ["given", "blocks"])
@pytest.mark.parametrize("cols", [64, 72])
def test_scales_can_be_estimated_on_the_way(formats, layer, order, cols):
    fmt = formats["int4_b32"]
    weight, _, hessian = layer(32, cols)
    amax, _ = scales(weight, fmt)
    seen = []

    def estimate(values, own, outer):
        seen.append((own.shape, values.shape))
        found = scaled_amax(block_amax(values, fmt.block), 0.6, 1.0, 0.05)
        return best_amax(values, fmt, found, squares(fmt.block))

    found = gptq(weight, hessian, fmt, amax, order=order, estimate=estimate, step=24)
    wides = [min(32, cols - s) for s in range(0, cols, 32)]
    assert sorted(seen) == sorted(((wide, wide), (32, wide)) for wide in wides)
    assert torch.equal(fake_quantize(found.weight, qparams_from_amax(found.amax, fmt)), found.weight)
    fixed = gptq(weight, hessian, fmt, amax, order=order)
    assert output_error(found.weight - weight, hessian) < output_error(fixed.weight - weight, hessian)


@pytest.mark.parametrize("step", [20, 32, 96])
def test_an_estimate_sees_the_values_that_fixed_scales_would_round(formats, layer, step):
    """With an estimate that returns the scales it was given, nothing changes: the values shown are up to date."""
    fmt = formats["int4_b32"]
    weight, _, hessian = layer(8, 96)
    amax, _ = scales(weight, fmt)
    order = BlockOrder.of(column_order(hessian.diagonal(), 32, "blocks"), 32).groups.tolist()
    plain = gptq(weight, hessian, fmt, amax, order="blocks", step=32)
    coming = iter(order)
    same = gptq(
        weight, hessian, fmt, amax, order="blocks", step=step, estimate=lambda *_: amax[:, next(coming), None]
    )
    assert (plain.weight != same.weight).float().mean() <= 0.01  # steps are summed in another order
    first = []
    gptq(
        weight, hessian, fmt, amax, order="given", step=step, estimate=lambda v, *_: first.append(v) or amax[:, :1]
    )
    assert torch.equal(first[0], weight[:, :32])


def test_an_estimate_sees_its_blocks_part_of_the_hessian(formats, layer):
    fmt = formats["int4_b32"]
    weight, _, hessian = layer(8, 72)
    parts = []
    gptq(
        weight,
        hessian,
        fmt,
        scales(weight, fmt)[0],
        order="given",
        estimate=lambda v, own, _: parts.append(own) or block_amax(v, fmt.block),
    )
    for start, own in zip((0, 32, 64), parts, strict=True):
        assert torch.equal(own, hessian[start : start + 32, start : start + 32])


def test_the_result_does_not_depend_on_the_step(formats, layer):
    weight, _, hessian = layer(16, 64)
    fmt = formats["nvfp4"]
    results = [gptq(weight, hessian, fmt, *scales(weight, fmt), step=s).weight for s in (1, 7, 64, 128)]
    assert max((r != results[0]).float().mean() for r in results) <= 0.01


def test_it_is_deterministic(formats, layer):
    weight, _, hessian = layer(16, 64)
    fmt = formats["nvfp4"]
    assert torch.equal(
        gptq(weight, hessian, fmt, *scales(weight, fmt)).weight,
        gptq(weight, hessian, fmt, *scales(weight, fmt)).weight,
    )


def test_independent_inputs_mean_plain_rounding(formats, layer):
    weight = layer(4, 32)[0]
    fmt = formats["int4_b32"]
    amax, _ = scales(weight, fmt)
    found = gptq(weight, torch.eye(32), fmt, amax)
    assert torch.equal(found.weight, fake_quantize(weight, qparams_from_amax(amax, fmt)))


def test_an_input_that_never_came_is_rounded_plainly(formats, layer):
    weight, inputs, _ = layer(4, 32)
    inputs[:, 3] = 0
    fmt = formats["int4_b32"]
    amax, _ = scales(weight, fmt)
    found = gptq(weight, inputs.T @ inputs, fmt, amax)
    assert torch.equal(found.weight[:, 3], fake_quantize(weight, qparams_from_amax(amax, fmt))[:, 3])


def test_estimates_need_blocks_that_are_rounded_together(formats, layer):
    weight, _, hessian = layer(4, 32)
    for name, order in (("int4_b32", "importance"), ("int8_row", "given")):
        fmt = formats[name]
        with pytest.raises(FormatError, match="estimated on the way"):
            gptq(weight, hessian, fmt, block_amax(weight, fmt.block), order=order, estimate=lambda v, w: v)


def test_statistics_that_are_not_finite_are_refused(formats, layer):
    weight = layer(4, 32)[0]
    with pytest.raises(CalibrationError, match="NaN"):
        gptq(weight, torch.full((32, 32), torch.nan), formats["int4_b32"], torch.ones(4, 1))


def test_column_orders():
    importance = torch.tensor([1.0, 2.0, 9.0, 3.0, 5.0])
    assert column_order(importance, 2, "given").tolist() == [0, 1, 2, 3, 4]
    assert column_order(importance, 2, "importance").tolist() == [2, 4, 3, 1, 0]
    assert column_order(importance, 2, "blocks").tolist() == [2, 3, 4, 1, 0]
