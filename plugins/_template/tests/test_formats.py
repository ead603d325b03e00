"""The number format keeps its contract."""

import pytest

from mtcore.testing import FormatContract
from mtopt_template.formats import E2M2

POSITIVE = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7]
"""Value of every code without its sign, as the paper (here: you) states them."""


class TestE2M2(FormatContract):
    @pytest.fixture
    def fmt(self):
        return E2M2

    @pytest.fixture
    def stated_values(self):
        return [*POSITIVE, *(-float(value) for value in POSITIVE)]
