"""Steps in a row: each changes what it is about, and keeps what the steps before it decided."""

import pytest
import torch
from torch import nn

import mtcore

BATCHES = [torch.randn(64, 32, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
CUT = {"method": "percentile", "percentile": 90}


def calibrated(algorithm, weight="int4_b32", then=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8))
    rules = [{"weight": weight, "input": {"format": "int8", "mode": "static"}}]
    if then is not None:
        model = mtcore.quantize(model, {"rules": rules, "algorithm": algorithm}, BATCHES)
        return mtcore.calibrate(model, then, BATCHES)
    return mtcore.quantize(model, {"rules": rules, "algorithm": algorithm}, BATCHES)


def inputs(model):
    return torch.stack([model[i].input_quantizer.amax.flatten() for i in (0, 2)])


def weights(model):
    layers = [model[i] for i in (0, 2)]
    return [layer.weight_quantizer(layer.weight.detach()) for layer in layers]


@pytest.mark.parametrize(
    "last", ["gptq", {"method": "gptq", "sequential": "none"}, "autoround", "local_hessian", "svdquant"]
)
def test_a_step_for_weights_keeps_the_ranges_of_activations_that_a_step_before_it_cut(last):
    assert torch.equal(inputs(calibrated([CUT, last])), inputs(calibrated(CUT)))
    assert bool((inputs(calibrated(last)) > inputs(calibrated(CUT))).all())


@pytest.mark.parametrize("last", [CUT, {"method": "mse", "weights": False}, "entropy"])
def test_a_step_for_activations_keeps_the_scales_of_weights(last):
    searched = weights(calibrated("local_hessian"))
    assert all(map(torch.equal, weights(calibrated(["local_hessian", last])), searched))
    assert not all(map(torch.equal, weights(calibrated(last)), searched))


def test_the_later_of_two_searches_for_weights_counts():
    both = weights(calibrated(["mse", "local_hessian"]))
    assert all(map(torch.equal, both, weights(calibrated("local_hessian"))))


@pytest.mark.parametrize("later", ["autoround", "gptq", "local_hessian", "entropy"])
def test_calibrating_again_begins_anew(later):
    again, fresh = calibrated(CUT, then=later), calibrated(later)
    assert torch.equal(inputs(again), inputs(fresh))
    assert all(map(torch.equal, weights(again), weights(fresh)))
