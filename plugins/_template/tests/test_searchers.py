"""The searcher keeps its contract, and does what it says."""

import pytest
import torch

from mtcore.opt import Look
from mtcore.testing import SearcherContract
from mtopt_template.searchers import LARGEST


class TestLargest(SearcherContract):
    @pytest.fixture
    def searcher(self):
        return LARGEST


def test_it_is_the_largest_error_over_the_largest_output():
    assert LARGEST.score(Look(torch.tensor([2.0, -4.0]), torch.tensor([2.5, -3.0]))) == 0.25
