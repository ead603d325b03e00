"""An artifact on the disk is the artifact; whatever is wrong with the files is one clear error."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import mtcore
from mtcore.errors import StateError
from mtcore.export import SourceFiles, open_artifact, write_artifact
from mtcore.formats.catalog import FP8, FP8_ROW, INT4_B128_FP8, INT8_ROW, MXFP4, NVFP4
from mtcore.formats.integers import int_block_asym
from mtcore.numerics import dequantize
from mtcore.plugins import Registry
from mtcore.testing import ExporterContract
from mtcore.testing.compare import assert_same_bits
from mtcore.testing.exporters import MADE_UP, stored_tensors, toy_artifact

FORMATS = [FP8, FP8_ROW, INT8_ROW, NVFP4, MXFP4, INT4_B128_FP8, int_block_asym(3, 64)]


def read_back(folder: Path) -> dict[str, torch.Tensor]:
    artifact = open_artifact(folder)
    weights = {
        f"{name}.{slot}": dequantize(q, torch.float32)
        for name, module in artifact.modules.items()
        for slot, q in module.weights.items()
    }
    return {**artifact.tensors, **weights}


class TestArtifactDialect(ExporterContract):
    @pytest.fixture
    def exporter(self):
        return Registry.load(discover=False).exporters["artifact"]

    @pytest.fixture(
        params=[FP8, FP8_ROW, INT8_ROW, NVFP4, MXFP4, INT4_B128_FP8, int_block_asym(3, 64)],
        ids=lambda fmt: fmt.name,
    )
    def weight_format(self, request):
        return request.param

    @pytest.fixture
    def input_format(self):
        return FP8

    @pytest.fixture
    def read_back(self):
        return read_back

    def test_the_sources_files_come_along(self, artifact, written):
        source = open_artifact(written).source
        assert {name: path.read_text() for name, path in source.files.items()} == {
            "tokenizer.json": '{"version": "toy"}',
            "notes.txt": "rebuilt",
        }

    def test_it_refuses_a_format_that_it_cannot_express_by_name(self, exporter):
        assert not exporter.check(toy_artifact(MADE_UP, None, SourceFiles()).plan), "it expresses every format"


def same(one, other):
    mine, theirs = stored_tensors(one), stored_tensors(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert_same_bits(tensor, theirs[name], name)


@pytest.fixture(scope="module")
def artifact():
    return toy_artifact(NVFP4, NVFP4, SourceFiles({"model_type": "toy"}))


@pytest.fixture
def folder(artifact, tmp_path):
    write_artifact(artifact, tmp_path)
    return tmp_path


def test_plan_codes_scales_and_activations_come_back(artifact, folder):
    found = open_artifact(folder)
    assert found.plan == artifact.plan
    assert (found.tied, found.source.config) == (artifact.tied, artifact.source.config)
    same(artifact, found)
    for name, module in artifact.modules.items():
        scale_2 = found.modules[name].activations["input"].scale_2
        assert torch.equal(scale_2, module.activations["input"].scale_2)


def test_shards_hold_the_same_and_are_no_larger_than_asked(artifact, tmp_path):
    write_artifact(artifact, tmp_path, max_shard_bytes=20_000)
    shards = sorted(tmp_path.glob("artifact-*.safetensors"))
    assert len(shards) > 2
    assert all(path.stat().st_size < 20_000 + 4_000 for path in shards)  # 4 kB: headers
    same(artifact, open_artifact(tmp_path))


def edit(folder, change):
    path = folder / "artifact.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "artifact.json").unlink(), "mtopt quantize MODEL --dialect artifact"),
        (lambda folder: (folder / "artifact.json").write_text("{"), "no artifact"),
        (lambda folder: (folder / "artifact.json").write_text("[]"), "no artifact"),
        (lambda folder: (folder / "artifact.safetensors").unlink(), "not a whole safetensors file"),
        (lambda folder: (folder / "artifact.safetensors").write_bytes(b"0123456789"), "not a whole safetensors"),
        (lambda folder: edit(folder, lambda c: c.update(version=99)), "of version 99"),
        (lambda folder: edit(folder, lambda c: c.pop("plan")), "no artifact"),
        (lambda folder: edit(folder, lambda c: c["modules"].pop("gate")), "plan and files do not agree about gate"),
        (lambda folder: edit(folder, lambda c: c.update(source=["gone"])), "gone"),
        (lambda folder: edit(folder, lambda c: c.update(source=["../up"])), "leads out of the directory"),
        (lambda folder: edit(folder, lambda c: c.update(files=["/tmp/x"])), "leads out of the directory"),
    ],
)  # fmt: skip
def test_a_damaged_artifact_is_one_clear_error(folder, damage, message):
    damage(folder)
    with pytest.raises(StateError, match=message):
        open_artifact(folder)


@torch.no_grad()
def test_what_layers_hold_beside_codes_is_kept(tmp_path):
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    steps = {"rules": [{"weight": "int8"}], "algorithm": {"method": "svdquant", "rank": 4}}
    artifact = mtcore.quantization.to_artifact(mtcore.quantize(model, steps))
    scaled = replace(artifact.plan["1"], pre_quant_scale=True)
    second = replace(artifact.modules["1"], plan=scaled, pre_quant_scale=torch.rand(64))
    plan = replace(artifact.plan, modules=(artifact.plan["0"], scaled))
    write_artifact(replace(artifact, plan=plan, modules={**artifact.modules, "1": second}), tmp_path)
    found = open_artifact(tmp_path).modules
    assert found["0"].pre_quant_scale is None
    assert torch.equal(found["1"].pre_quant_scale, second.pre_quant_scale)
    for name in ("0", "1"):
        assert torch.equal(found[name].low_rank.up, artifact.modules[name].low_rank.up)
        assert torch.equal(found[name].low_rank.down, artifact.modules[name].low_rank.down)
