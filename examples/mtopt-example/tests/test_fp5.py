"""FP5 keeps the contract of formats. Its values, from the definition of an IEEE-like float with bias 1."""

import pytest

from mtcore.testing import FormatContract
from mtopt_example.fp5 import FP5_ROW

POSITIVE = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0]


class TestFp5(FormatContract):
    @pytest.fixture
    def fmt(self):
        return FP5_ROW

    @pytest.fixture
    def stated_values(self):
        return [*POSITIVE, *(-value for value in POSITIVE)]
