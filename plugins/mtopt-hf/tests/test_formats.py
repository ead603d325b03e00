"""Formats that the plugin brings keep the contract of formats."""

import pytest

from mtcore.testing import FormatContract
from mtopt_hf.formats import hub_formats


class TestFormats(FormatContract):
    @pytest.fixture(params=list(hub_formats()), ids=lambda fmt: fmt.name)
    def fmt(self, request):
        return request.param

    @pytest.fixture
    def stated_values(self, fmt):
        """Counted upwards from zero; where codes are signed, the upper half is two's complement."""
        if fmt.name.startswith("nvfp4"):
            positive = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
            return [*positive, *(-value for value in positive)]
        count = 2**fmt.element.bits
        if fmt.name.endswith("_asym"):
            return range(count)
        return [*range(count // 2), *range(-count // 2, 0)]
