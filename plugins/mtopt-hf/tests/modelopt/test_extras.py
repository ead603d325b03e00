"""Layers that hold more than codes and scales: a scale of their input, a low-rank branch."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mtcore.export import LowRankBranch, SourceFiles
from mtcore.formats.catalog import FP8, INT4_B128, INT4_B128_FP8, INT8_ROW, INT8_TENSOR, NVFP4
from mtcore.testing.exporters import toy_artifact
from mtopt_hf.exporters import exporters
from mtopt_hf.modelopt import client_problems, write_checkpoint

MODELOPT = next(spec for spec in exporters() if spec.name == "modelopt")


def with_extras(artifact, scale, branch=None):
    """The artifact whose layer `down` holds a scale of its input, and perhaps a branch."""
    module = artifact.modules["down"]
    rank = 0 if branch is None else branch.up.shape[1]
    planned = replace(module.plan, pre_quant_scale=True, low_rank=rank)
    plan = replace(artifact.plan, modules=tuple(planned if m.name == "down" else m for m in artifact.plan.modules))
    down = replace(module, plan=planned, pre_quant_scale=scale, low_rank=branch)
    return replace(artifact, plan=plan, modules={**artifact.modules, "down": down})


@pytest.fixture(scope="module")
def scale():
    return torch.rand(256, generator=torch.Generator().manual_seed(4)) + 0.5


def written(artifact, folder):
    write_checkpoint(artifact, folder)
    nested = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]
    return load_file(folder / "model.safetensors"), nested


PAIRS = {
    "NVFP4_AWQ": (NVFP4, NVFP4),
    "W4A16_AWQ": (INT4_B128, None),
    "W4A8_AWQ": (INT4_B128_FP8, FP8),
    "W8A8_SQ_PER_CHANNEL": (INT8_ROW, INT8_TENSOR),
}


@pytest.mark.parametrize("algo", PAIRS)
def test_a_scale_of_the_input_is_carried_and_labels_all_layers(algo, scale, tmp_path):
    artifact = with_extras(toy_artifact(*PAIRS[algo], SourceFiles()), scale)
    assert MODELOPT.problems(artifact.plan) == ()
    tensors, nested = written(artifact, tmp_path)
    assert torch.equal(tensors["down.pre_quant_scale"], scale)
    assert nested["quant_algo"] == algo
    assert "quantized_layers" not in nested
    if algo != "W8A8_SQ_PER_CHANNEL":
        assert nested["pre_quant_scale"] is True


def test_a_branch_is_carried_beside_the_scale(scale, tmp_path):
    branch = LowRankBranch(torch.ones(128, 4, dtype=torch.bfloat16), torch.full((4, 256), 2, dtype=torch.bfloat16))
    artifact = with_extras(toy_artifact(NVFP4, NVFP4, SourceFiles()), scale, branch)
    assert MODELOPT.problems(artifact.plan) == ()
    tensors, nested = written(artifact, tmp_path)
    assert torch.equal(tensors["down.svdquant_lora_a"], branch.down)
    assert torch.equal(tensors["down.svdquant_lora_b"], branch.up)
    assert nested["quant_algo"] == "NVFP4_SVD"


def test_what_has_no_place_is_refused_by_name(scale):
    artifact = with_extras(toy_artifact(FP8, FP8, SourceFiles()), scale)
    (problem,) = MODELOPT.problems(artifact.plan)
    assert "down: modelopt cannot hold scales of its input" in problem


def test_clients_judge_by_what_the_layers_hold(scale):
    plain = toy_artifact(NVFP4, NVFP4, SourceFiles())
    assert not client_problems("vllm", plain.plan)
    scaled = with_extras(plain, scale)
    assert not client_problems("trtllm", scaled.plan)
    (problem,) = client_problems("vllm", scaled.plan)
    assert problem.startswith(
        "down: vllm does not run NVFP4_AWQ of modelopt checkpoints (of the modelopt dialect it"
    )
