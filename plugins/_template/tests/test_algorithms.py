"""The algorithm keeps its contract, and does what it says."""

import pytest
import torch
from pydantic import ValidationError

from mtcore.testing import AlgorithmContract
from mtopt_template.algorithms import SHRINK, ShrinkOptions


class TestShrink(AlgorithmContract):
    @pytest.fixture
    def algorithm(self):
        return SHRINK

    def test_half_the_share_gives_half_the_range(self, case):
        case.calibrate()
        again = case.again()
        again.options = ShrinkOptions(share=0.45)  # the default is 0.9
        again.calibrate()
        whole, half = (one.quantizers()["down.input"].amax for one in (case, again))
        assert torch.equal(half, whole / 2)


def test_a_share_above_one_is_refused():
    with pytest.raises(ValidationError, match="share"):
        ShrinkOptions(share=1.5)
