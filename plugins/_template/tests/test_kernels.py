"""The kernel gives the bits of the reference, for every format that it serves."""

import pytest

from mtcore.formats.catalog import FP8_ROW, INT8_ROW
from mtcore.testing import KernelContract
from mtopt_template.kernels import ROW_AMAX


@pytest.mark.parametrize("fmt", [FP8_ROW, INT8_ROW], ids=lambda fmt: fmt.name)
class TestRowAmax(KernelContract):
    @pytest.fixture
    def kernel(self):
        return ROW_AMAX
