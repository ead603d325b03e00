"""Every spelling of the table keeps the contract of exporters: what a client reads is the artifact."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mtcore.formats.catalog import FP8, FP8_ROW, FP8_RUN, INT8_ROW, INT8_TENSOR, MXFP4, MXFP8_E4M3, NVFP4
from mtcore.testing import ExporterContract
from mtopt_hf.ct.spelling import SPELLINGS, spelling_of
from mtopt_hf.exporters import exporters

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
E2M3 = torch.tensor([*(m / 8 for m in range(8)), *((1 + m / 8) * 2**e for e in range(3) for m in range(8))])
INPUTS = (FP8, FP8_ROW, FP8_RUN, INT8_ROW, INT8_TENSOR, MXFP4, MXFP8_E4M3, NVFP4)
PAIRS = [(spelling.format, None) for spelling in SPELLINGS if spelling.layout_alone is not None] + [
    (spelling.format, given)
    for spelling in SPELLINGS
    for given in INPUTS
    if spelling_of(given).family in spelling.layout
]


def read_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors as a client of compressed-tensors sees them, weights dequantized. Knows the files only."""
    tensors = load_file(folder / "model.safetensors")
    (group,) = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"].values()
    for scale in [name for name in tensors if name.endswith(".weight_scale")]:
        stem = scale.removesuffix("_scale")
        tensors[stem] = dequantized(tensors, stem, group["format"], group["weights"])
    return tensors


def dequantized(tensors: dict[str, torch.Tensor], stem: str, layout: str, weights: dict) -> torch.Tensor:
    scale = tensors[f"{stem}_scale"]
    if layout.startswith("mx"):
        scale = 2.0 ** (scale.float() - 127)
    scale = scale.float()
    if layout == "nvfp4-pack-quantized":
        scale = scale / tensors[f"{stem}_global_scale"]
    bits, packed = weights["num_bits"], tensors.get(f"{stem}_packed")
    if layout == "pack-quantized":
        rows, cols = tensors[f"{stem}_shape"].tolist()
        values = codes_of(packed.view(torch.uint8), bits)[:, :cols].float()
        if weights["symmetric"]:
            values -= 2 ** (bits - 1)
        else:
            points = codes_of(tensors[f"{stem}_zero_point"].t().contiguous().view(torch.uint8), bits)[:, :rows].t()
            values -= spread(points, values)
    elif packed is not None:
        codes, table = codes_of(packed, bits), E2M1 if bits == 4 else E2M3
        values = table[codes & (len(table) - 1)] * torch.where(codes >= len(table), -1.0, 1.0)
    else:
        values = tensors[stem].float()
    if weights["strategy"] == "block":
        high, wide = weights["block_structure"]
        scale = scale.repeat_interleave(high, dim=0)[: len(values)].repeat_interleave(wide, dim=1)
        return values * scale[:, : values.shape[1]]
    return values * (scale if scale.numel() == 1 else spread(scale, values))


def codes_of(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Dense codes, the first in the lowest bits: int64 [rows, 8 · bytes / bits]."""
    one_by_one = (packed.long()[..., None] >> torch.arange(8) & 1).flatten(1)
    count = one_by_one.shape[1] // bits
    return (one_by_one[:, : count * bits].view(len(packed), count, bits) << torch.arange(bits)).sum(-1)


def spread(scale: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return scale.repeat_interleave(values.shape[1] // scale.shape[1], dim=1)


class CompressedTensors(ExporterContract):
    @pytest.fixture
    def exporter(self):
        return next(spec for spec in exporters() if spec.name == "compressed-tensors")

    @pytest.fixture
    def config(self):
        return {"architectures": ["Toy"]}

    @pytest.fixture
    def read_back(self):
        return read_checkpoint

    @pytest.fixture
    def weight_format(self, formats):
        return formats[0]

    @pytest.fixture
    def input_format(self, formats):
        return formats[1]


def name_of(formats) -> str:
    return f"{formats[0].name} with {formats[1].name}" if formats[1] else f"{formats[0].name} alone"


class TestEverySpelling(CompressedTensors):
    @pytest.fixture(params=[pair for pair in PAIRS if pair[0] is not NVFP4], ids=name_of)
    def formats(self, request):
        return request.param


class TestNVFP4(CompressedTensors):
    # The dialect stores the reciprocal of the outer scale, and clients divide by it. Five roundings separate the
    # results: reciprocal and quotient there, the product of the scales here, the product with the code on either
    # side. Each is at most 2^-24 of the number, and a unit in the last place is at least that.
    ulps = 5

    @pytest.fixture(params=[pair for pair in PAIRS if pair[0] is NVFP4], ids=name_of)
    def formats(self, request):
        return request.param
