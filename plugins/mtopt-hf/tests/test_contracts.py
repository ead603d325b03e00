"""The plugin keeps the contracts of mtcore: its exporter in every layout, and its loader."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mtopt_hf.hooks
from mtcore.formats.catalog import FP8, FP8_ROW, INT8_ROW, INT8_TENSOR, NVFP4
from mtcore.testing import ExporterContract, ModelLoaderContract
from mtopt_hf.exporters import exporters

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def read_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors as a client of compressed-tensors sees them, weights dequantized."""
    tensors = load_file(folder / "model.safetensors")
    for scale in [name for name in tensors if name.endswith(".weight_scale")]:
        stem = scale.removesuffix("_scale")
        if f"{stem}_global_scale" in tensors:
            tensors[stem] = unpack_nvfp4(tensors, stem)
        elif f"{stem}_packed" in tensors:
            tensors[stem] = unpack_words(tensors, stem)
        else:
            tensors[stem] = tensors[stem].float() * tensors[scale]
    return tensors


def unpack_nvfp4(tensors: dict[str, torch.Tensor], stem: str) -> torch.Tensor:
    packed = tensors[f"{stem}_packed"]
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1)
    values = E2M1[(codes & 7).int()] * torch.where(codes > 7, -1.0, 1.0)
    scale = tensors[f"{stem}_scale"].float() / tensors[f"{stem}_global_scale"]
    return values * scale.repeat_interleave(16, dim=1)


def unpack_words(tensors: dict[str, torch.Tensor], stem: str) -> torch.Tensor:
    rows, cols = tensors[f"{stem}_shape"].tolist()
    codes = tensors[f"{stem}_packed"].view(torch.uint8).view(rows, -1)[:, :cols]
    return (codes.float() - 128) * tensors[f"{stem}_scale"]


class CompressedTensors(ExporterContract):
    @pytest.fixture
    def exporter(self):
        return next(iter(exporters()))

    @pytest.fixture
    def config(self, tiny_llama):
        return tiny_llama.config.to_dict()

    @pytest.fixture
    def read_back(self):
        return read_checkpoint


class TestWeightsAlone(CompressedTensors):
    @pytest.fixture(params=[FP8, FP8_ROW, INT8_ROW], ids=lambda fmt: fmt.name)
    def weight_format(self, request):
        return request.param


class TestFP8(CompressedTensors):
    @pytest.fixture(params=[FP8, FP8_ROW], ids=lambda fmt: fmt.name)
    def weight_format(self, request):
        return request.param

    @pytest.fixture
    def input_format(self, weight_format):
        return weight_format


class TestINT8(CompressedTensors):
    @pytest.fixture
    def weight_format(self):
        return INT8_ROW

    @pytest.fixture(params=[INT8_ROW, INT8_TENSOR], ids=lambda fmt: fmt.name)
    def input_format(self, request):
        return request.param


class TestNVFP4(CompressedTensors):
    # The dialect stores the reciprocal of the outer scale, and clients divide by it. Five roundings separate the
    # results: reciprocal and quotient there, the product of the scales here, the product with the code on either
    # side. Each is at most 2^-24 of the number, and a unit in the last place is at least that.
    ulps = 5

    @pytest.fixture
    def weight_format(self):
        return NVFP4

    @pytest.fixture(params=[None, NVFP4], ids=["weights alone", "inputs too"])
    def input_format(self, request):
        return request.param


class TestLoader(ModelLoaderContract):
    @pytest.fixture
    def plugin(self):
        return mtopt_hf.hooks

    @pytest.fixture
    def source(self, llama_checkpoint):
        return str(llama_checkpoint)

    @pytest.fixture
    def broken_sources(self, llama_copy):
        weights = llama_copy / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        return [str(llama_copy)]
