"""The algorithm keeps the contract of algorithms, and cuts off where it says."""

import pytest
import torch
from torch import nn

import mtcore
from mtcore.plugins import Registry
from mtcore.testing import AlgorithmContract
from mtopt_example import hooks
from mtopt_example.sigma_clip import SIGMA_CLIP


class TestSigmaClip(AlgorithmContract):
    @pytest.fixture
    def algorithm(self):
        return SIGMA_CLIP

    @pytest.fixture(params=[6.0, 1.0], ids=lambda sigmas: f"sigmas={sigmas}")
    def options(self, request):
        return {"sigmas": request.param}


@pytest.mark.parametrize(("sigmas", "amax"), [(2.0, 2.0), (100.0, 8.0)])
def test_the_range_ends_at_so_many_root_mean_squares_or_at_the_largest_value(sigmas, amax):
    batch = torch.zeros(64, 8)
    batch[0], batch[1, 0] = 0.0, 8.0  # the mean square of 512 values is 64 / 512 + …
    batch[2:9] = (1.0 - 64.0 / 512) ** 0.5 * (512 / 56) ** 0.5  # … the rest of 1
    config = {
        "quant_cfg": {"*weight_quantizer": {"num_bits": 8}, "*input_quantizer": {"num_bits": 8}},
        "algorithm": {"method": "sigma_clip", "sigmas": sigmas},
    }
    registry = Registry.load([hooks], discover=False, strict=True)
    model = mtcore.quantize(nn.Sequential(nn.Linear(8, 8)), config, [batch], registry=registry)
    assert model[0].input_quantizer.amax.item() == pytest.approx(amax, rel=2**-20)  # a sum of 512 fp32 squares
