"""Steps of GPTQ are functions of their tensors, equal as keys where they do the same."""

import pytest
import torch

from mtcore.calibration.math.gptq_steps import BlockOrder, EstimatingStep, FixedStep, steps
from mtcore.calibration.scales import BlockScales
from mtcore.numerics import block_amax, fake_quantize, qparams_from_amax


def test_alike_steps_are_one_key(formats):
    fmt = formats["nvfp4"]
    one, other = (EstimatingStep(fmt, BlockScales(fmt, "mse"), (16, 16)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != EstimatingStep(fmt, BlockScales(fmt, "max"), (16, 16))
    assert FixedStep(fmt) != FixedStep(formats["fp8"])


def test_a_step_changes_none_of_its_inputs(formats, layer):
    fmt = formats["int4_b32"]
    weight, _, hessian = layer(8, 32)
    inputs = weight.T.contiguous(), torch.linalg.cholesky(hessian, upper=True), torch.ones(32, 1)
    before = [x.clone() for x in inputs]
    FixedStep(fmt)(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def test_columns_that_do_not_touch_are_rounded_plainly(formats, layer):
    fmt = formats["int4_b32"]
    weight = layer(8, 64)[0]
    amax = block_amax(weight, fmt.block)
    step = EstimatingStep(fmt, lambda values, *_: block_amax(values.contiguous(), fmt.block), (32, 32))
    done, _, found = step(weight.T.contiguous(), torch.eye(64), torch.eye(32).expand(2, 32, 32), torch.arange(64))
    assert torch.equal(found, amax)
    assert torch.equal(done.T, fake_quantize(weight, qparams_from_amax(amax, fmt)))


@pytest.mark.parametrize(
    ("sizes", "step", "parts"),
    [
        ([1] * 5, 2, [(0, 2), (2, 4), (4, 5)]),
        ([32, 32, 8], 24, [(0, 32), (32, 64), (64, 72)]),
        ([64], 8, [(0, 64)]),
    ],
)
def test_steps_hold_whole_blocks(sizes, step, parts):
    assert [(part.start, part.stop) for part, _ in steps(sizes, step)] == parts


def test_blocks_are_listed_as_the_work_takes_them():
    order = BlockOrder.of(torch.tensor([5, 4, 6, 1, 0, 3, 2]), 4)
    assert order.sizes == (3, 4)
    assert order.groups.tolist() == [1, 0]
    assert order.places.tolist() == [1, 0, 2, 4, 3, 6, 5]
