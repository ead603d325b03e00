"""The proof: what counts as the same, and what does not."""

from dataclasses import replace

import pytest
import torch

from mtcore.formats.catalog import NVFP4
from mtcore.formats.integers import int_block_asym
from mtcore.numerics import dynamic_qparams, quantize
from mtopt_hf.checkpoint.layer import LayerValues
from mtopt_hf.convert.proof import prove


@pytest.fixture(params=[NVFP4, int_block_asym(4, 32)], ids=lambda fmt: fmt.name)
def values(request):
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    return LayerValues(quantize(x, dynamic_qparams(x, request.param)), None)


def changed(values, **parts):
    qparams = replace(values.weight.qparams, **{k: v for k, v in parts.items() if k != "qdata"})
    return LayerValues(replace(values.weight, qparams=qparams, qdata=parts.get("qdata", values.weight.qdata)), None)


def test_the_same_values_are_proven(values):
    proof = prove("layer", values, values)
    assert proof.holds
    assert proof.elements == 512


def test_one_code_is_enough_to_fail(values):
    qdata = values.weight.qdata.clone()
    qdata[3, 3] ^= 1
    proof = prove("layer", values, changed(values, qdata=qdata))
    assert (proof.codes, proof.scales, proof.holds) == (False, True, False)


def test_one_scale_is_enough_to_fail(values):
    scale = values.weight.qparams.scale.clone()
    scale.view(torch.uint8)[0, 0] ^= 1
    assert not prove("layer", values, changed(values, scale=scale)).scales


def test_one_zero_point_is_enough_to_fail(values):
    zero = torch.full((8, 2), 8, dtype=torch.int16)
    proof = prove("layer", changed(values, zero_point=zero), changed(values, zero_point=zero + 1))
    assert (proof.zero_points, proof.holds) == (False, False)


@pytest.mark.parametrize(("units", "holds"), [(1, True), (-1, True), (2, False)])
def test_an_outer_scale_may_be_one_unit_off(values, units, holds):
    if values.weight.qparams.scale_2 is None:
        values = changed(values, scale_2=torch.tensor(0.3))
    outer = values.weight.qparams.scale_2
    other = (outer.view(torch.int32) + units).view(torch.float32)
    proof = prove("layer", values, changed(values, scale_2=other))
    assert (proof.outer_ulps, proof.holds) == (abs(units), holds)


def test_an_outer_scale_that_is_gone_fails(values):
    kept = changed(values, scale_2=torch.tensor(0.3))
    assert not prove("layer", kept, changed(kept, scale_2=None)).holds
