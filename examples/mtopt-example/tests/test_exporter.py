"""The dialect `plain` keeps the contract of exporters; a client of a few lines reads it back."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mtcore.formats.catalog import INT8_ROW, INT8_TENSOR
from mtcore.testing import ExporterContract
from mtopt_example.exporter import PLAIN
from mtopt_example.fp5 import FP5_ROW

FP5_VALUES = torch.tensor(
    [sign * v for sign in (1, -1) for v in (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7)]
)


def read_plain(directory):
    """Weights as a client decodes them: it knows FP5 and I8, and nothing of mtcore."""
    tensors = load_file(directory / "model.safetensors")
    spelt = json.loads((directory / "config.json").read_text())["plain"]
    for module in spelt:
        codes, scale = tensors.pop(f"{module}.weight.qdata"), tensors.pop(f"{module}.weight.scale")
        values = codes.float() if spelt[module]["weight"] == "I8" else FP5_VALUES[unpack5(codes)]
        tensors[f"{module}.weight"] = values * scale
    return tensors


def unpack5(codes):
    """Five bits a code, least significant first, from bytes [rows, 5 · cols / 8]."""
    bits = np.unpackbits(codes.numpy(), axis=1, bitorder="little").reshape(len(codes), -1, 5)
    return torch.from_numpy((bits << np.arange(5)).sum(axis=2))


class TestPlain(ExporterContract):
    @pytest.fixture
    def exporter(self):
        return PLAIN

    @pytest.fixture
    def read_back(self):
        return read_plain

    @pytest.fixture(params=[FP5_ROW, INT8_ROW], ids=lambda fmt: fmt.name)
    def weight_format(self, request):
        return request.param

    @pytest.fixture(params=[None, INT8_TENSOR], ids=["weights alone", "inputs too"])
    def input_format(self, request):
        return request.param
