"""Formats that the plugin brings keep the contract of formats."""

import pytest

from mtcore.testing import FormatContract
from mtopt_hf.formats import row_formats


class TestRowFormats(FormatContract):
    @pytest.fixture(params=list(row_formats()), ids=lambda fmt: fmt.name)
    def fmt(self, request):
        return request.param

    @pytest.fixture
    def stated_values(self, fmt):
        """Counted upwards from zero; where codes are signed, the upper half is two's complement."""
        count = 2**fmt.element.bits
        if fmt.name.endswith("_asym"):
            return range(count)
        return [*range(count // 2), *range(-count // 2, 0)]
