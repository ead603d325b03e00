"""Every spelling of the table keeps the contract of exporters: what a client reads is the artifact, bit for bit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mtcore.testing import ExporterContract
from mtopt_hf.exporters import exporters
from mtopt_hf.modelopt.spelling import SPELLINGS

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])
NIBBLE = torch.tensor([*range(8), *range(-8, 0)]).float()


def low_and_high(packed: torch.Tensor, axis: int) -> torch.Tensor:
    """The two codes of each byte, as neighbours along `axis`."""
    return torch.stack((packed & 15, packed >> 4), dim=axis + 1).flatten(axis, axis + 1).int()


def read_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors as TensorRT-LLM and vLLM see them, weights dequantized. Knows the files only."""
    tensors = load_file(folder / "model.safetensors")
    algo = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]["quant_algo"]
    for name in [name for name in tensors if name.endswith(".weight_scale")]:
        stem = name.removesuffix("_scale")
        tensors[stem] = dequantized(algo, tensors[stem], tensors[name], tensors.get(f"{stem}_scale_2"))
    return tensors


def dequantized(algo: str, weight: torch.Tensor, scale: torch.Tensor, scale_2: torch.Tensor | None) -> torch.Tensor:
    if algo in ("W4A16_AWQ", "W4A8_AWQ"):
        values = NIBBLE[low_and_high(weight, 0)]
    elif weight.dtype == torch.uint8:
        values = E2M1[low_and_high(weight, 1)]
    else:
        values = weight.float()
    if scale.dtype == torch.uint8:
        scale = 2.0 ** (scale.float() - 127)
    scale = scale.float()
    if scale.dim() == 4:
        rows, _, cols, _ = scale.shape
        return values * scale.expand(rows, 128, cols, 128).reshape(values.shape)
    if scale.dim() == 1:
        return values * scale[:, None]
    if algo == "W4A8_AWQ":  # TensorRT-LLM multiplies in FP8 by scale / scale_2, and by scale_2 at the end
        return ((values * spread(scale, values)) / scale_2).to(torch.float8_e4m3fn).float() * scale_2
    if scale_2 is not None:
        scale = scale * scale_2
    return values * (spread(scale, values) if scale.dim() else scale)


def spread(scale: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return scale.repeat_interleave(values.shape[1] // scale.shape[1], dim=1)


class TestEverySpelling(ExporterContract):
    @pytest.fixture(
        params=SPELLINGS,
        ids=lambda spelling: f"{spelling.algo} {spelling.group_size or ''} {spelling.mode or 'weights alone'}",
    )
    def spelling(self, request):
        return request.param

    @pytest.fixture
    def exporter(self):
        return next(spec for spec in exporters() if spec.name == "modelopt")

    @pytest.fixture
    def weight_format(self, spelling):
        return spelling.weight

    @pytest.fixture
    def input_format(self, spelling):
        return spelling.input

    @pytest.fixture
    def config(self):
        return {"architectures": ["Toy"]}

    @pytest.fixture
    def read_back(self):
        return read_checkpoint

    def test_both_descriptions_say_the_same(self, written, spelling):
        flat = json.loads((written / "config.json").read_text())["quantization_config"]
        nested = json.loads((written / "hf_quant_config.json").read_text())
        assert flat["producer"] == nested["producer"]
        assert flat["ignore"] == nested["quantization"].pop("exclude_modules")
        assert nested["quantization"].pop("kv_cache_quant_algo") is None
        assert nested["quantization"]["quant_algo"] == spelling.algo
        assert {key: flat[key] for key in nested["quantization"]} == nested["quantization"]

    def test_scales_are_stored_in_the_shapes_and_dtypes_that_clients_allocate(self, written, spelling):
        tensors = load_file(written / "model.safetensors")
        groups = 128 // (spelling.group_size or 32)
        shape = {"tensor": (), "row": (256,), "tile": (2, 1, 1, 1), "blocks": (256, groups)}[spelling.scale]
        assert tensors["up.weight_scale"].shape == shape
        if spelling.input is not None and spelling.mode != "dynamic":
            assert (tensors["up.input_scale"].shape, tensors["up.input_scale"].dtype) == ((), torch.float32)
        else:
            assert "up.input_scale" not in tensors
        if spelling.smoothed:
            assert torch.equal(tensors["down.pre_quant_scale"], torch.ones(256))

    def test_what_a_server_fuses_has_equal_scales(self, written):
        tensors = load_file(written / "model.safetensors")
        for name in ("weight_scale_2", "input_scale"):
            if f"up.{name}" in tensors:
                assert torch.equal(tensors[f"up.{name}"], tensors[f"gate.{name}"])
