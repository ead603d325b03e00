"""AutoAWQ's dialect keeps the contract of exporters.

Its scales are fp16. Where fp16 holds the artifact's scales, a client reads the artifact bit for bit; else each
weight is off by the rounding of its scale.
"""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mtcore.errors import ExportError
from mtcore.export import SourceFiles
from mtcore.formats.catalog import FP8, FP8_ROW
from mtcore.numerics import dequantize
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.testing import ExporterContract
from mtcore.testing.exporters import toy_artifact
from mtopt_hf.autoawq import check_plan, write_checkpoint
from mtopt_hf.autoawq.spelling import SPELLINGS
from mtopt_hf.exporters import exporters

FORMATS = [spelling.weight for spelling in SPELLINGS]
PLACES = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])
"""Where AutoAWQ's unpacker finds outputs 0 … 7 among the nibbles of a word."""


def nibbles(words):
    """int32 [n, m] → the outputs [n, 8·m] in their order."""
    return (words[:, :, None] >> (4 * PLACES) & 15).flatten(1)


def read_checkpoint(folder):
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith(".qweight")]:
        stem = name.removesuffix(".qweight")
        codes, zeros, scales = nibbles(tensors[name]), nibbles(tensors[f"{stem}.qzeros"]), tensors[f"{stem}.scales"]
        group = len(codes) // len(zeros)
        spread = [part.repeat_interleave(group, dim=0) for part in (zeros, scales.float())]
        tensors[f"{stem}.weight"] = ((codes - spread[0]) * spread[1]).t()
    return tensors


class TestEverySpelling(ExporterContract):
    @pytest.fixture
    def exporter(self):
        return next(spec for spec in exporters() if spec.name == "awq")

    @pytest.fixture(params=FORMATS, ids=lambda fmt: fmt.name)
    def weight_format(self, request):
        return request.param

    @pytest.fixture
    def artifact(self, weight_format, fp16_scaled):
        return fp16_scaled(weight_format)

    @pytest.fixture
    def read_back(self):
        return read_checkpoint

    def test_the_configuration_is_autoawqs(self, written, weight_format):
        assert json.loads((written / "config.json").read_text())["quantization_config"] == {
            "quant_method": "awq",
            "version": "gemm",
            "bits": 4,
            "group_size": weight_format.block.cols,
            "zero_point": True,
            "modules_to_not_convert": None,
        }

    def test_shapes_and_dtypes_are_those_that_clients_allocate(self, written, weight_format):
        tensors, groups = load_file(written / "model.safetensors"), 256 // weight_format.block.cols
        found = {part: tensors[f"down.{part}"] for part in ("qweight", "qzeros", "scales")}
        assert {part: (tuple(tensor.shape), tensor.dtype) for part, tensor in found.items()} == {
            "qweight": ((256, 16), torch.int32),
            "qzeros": ((groups, 16), torch.int32),
            "scales": ((groups, 128), torch.float16),
        }


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_other_scales_move_a_weight_by_their_own_rounding_only(fmt, tmp_path):
    artifact = toy_artifact(fmt, None, SourceFiles())
    write_checkpoint(artifact, tmp_path)
    for name, module in artifact.modules.items():
        ours = dequantize(module.weights["weight"])
        theirs = read_checkpoint(tmp_path)[f"{name}.weight"]
        # rounding to 11 bits: 2^-11 of the scale; then either product is rounded to fp32: 2^-24 each
        assert ((theirs - ours).abs() <= (2**-11 + 2 * 2**-24) * ours.abs()).all()


@pytest.mark.parametrize("size", [1e-7, 1e9])
def test_scales_that_fp16_does_not_hold_are_refused_with_the_layer(size, tmp_path):
    artifact = toy_artifact(FORMATS[0], None, SourceFiles())
    q = artifact.modules["up"].weights["weight"]
    scaled = replace(q, qparams=replace(q.qparams, scale=q.qparams.scale * size))
    up = replace(artifact.modules["up"], weights={"weight": scaled})
    with pytest.raises(ExportError, match=r"up: scales from .* do not fit into fp16"):
        write_checkpoint(replace(artifact, modules={**artifact.modules, "up": up}), tmp_path)


def module(name, *slots, shape=(256, 128)):
    planned = tuple(SlotPlan(slot, fmt, mode, f"rule of {slot}") for slot, fmt, mode in slots)
    return ModulePlan(name, "Linear", "nn.Linear", (("weight", shape),), planned, "by hand")


def problems(*modules):
    return "; ".join(check_plan(Plan("by hand", modules, (), (), (), Coverage(1, 1, 0))))


def test_what_the_layout_cannot_hold_is_refused_by_name():
    good = ("weight", FORMATS[0], "static")
    assert "awq holds weights alone; switch off the rule on inputs (rule of input)" in problems(
        module("up", good, ("input", FP8_ROW, "dynamic"))
    )
    assert "format fp8 (weight, rule of weight) cannot be spelled in awq" in problems(
        module("up", ("weight", FP8, "static"))
    )
    assert "out_features 252 is not a multiple of 8" in problems(module("up", good, shape=(252, 128)))
    assert "in_features 48 is not a multiple of 32" in problems(module("up", good, shape=(256, 48)))
    assert "one group size for all layers, not int4_b32_asym, int4_b128_asym" in problems(
        module("up", good), module("down", ("weight", FORMATS[4], "static"))
    )
