"""The dialect keeps its contract: what a client reads is what was quantized."""

import pytest
from safetensors.torch import load_file

from mtcore.formats.catalog import FP8, INT8_ROW
from mtcore.testing import ExporterContract
from mtopt_template.exporters import PLAIN


def read_back(directory):
    """What a client sees; written without the exporter's code."""
    tensors = load_file(directory / "model.safetensors")
    for name in [name.removesuffix(".codes") for name in tensors if name.endswith(".codes")]:
        tensors[name] = tensors.pop(f"{name}.codes").float() * tensors.pop(f"{name}.scale")
    return tensors


class TestPlain(ExporterContract):
    @pytest.fixture
    def exporter(self):
        return PLAIN

    @pytest.fixture(params=[FP8, INT8_ROW], ids=lambda fmt: fmt.name)
    def weight_format(self, request):
        return request.param

    @pytest.fixture
    def read_back(self):
        return read_back
