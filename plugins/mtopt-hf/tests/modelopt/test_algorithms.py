"""Every algorithm of ModelOpt: the run that the page names writes it, both files say the same, and lint agrees."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mtcore.flow import quantize_checkpoint
from mtcore.lint import lint, open_checkpoint
from mtcore.plugins import default_registry
from mtcore.recipe import load_config

GENERATE = Path(__file__).parents[4] / "docs" / "generate"
NAMES = (
    "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "fp8_pb_wo", "NVFP4", "NVFP4_AWQ", "NVFP4_SVD", "W4A16_NVFP4",
    "W4A8_NVFP4_FP8", "MXFP8", "mxfp4", "W4A8_MXFP4_FP8", "W4A16_AWQ", "W4A8_AWQ", "W8A8_SQ_PER_CHANNEL", "W8A16",
    "MIXED_PRECISION",
)  # fmt: skip
FOLDED = {"NVFP4_AWQ": "NVFP4"}  # every scale of this model finds a place to be folded into


@pytest.fixture
def rows(monkeypatch):
    """What the page says, by algorithm."""
    monkeypatch.syspath_prepend(str(GENERATE))
    return {one.name: one for one in import_module("recipe_rows").ALGORITHMS}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Wide enough for blocks of 128."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=64, num_hidden_layers=1, head_dim=128, tie_word_embeddings=False, **sizes)
    folder = tmp_path_factory.mktemp("wide")
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def written(model, recipe, out, *overrides):
    registry = default_registry()
    config = load_config(recipe, formats=registry.formats, recipes=registry.recipes, overrides=overrides)
    ids = torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))
    quantize_checkpoint(str(model), config, out, calib=[{"input_ids": ids}], dialect="modelopt")
    return lint(open_checkpoint(out), list(registry.clients.values()), registry.lint_rules.values())


def test_the_page_has_all_of_them(rows):
    assert set(rows) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_run_that_the_page_names_writes_it(name, rows, model, tmp_path):
    row = rows[name]
    report = written(model, row.recipe, tmp_path / "out", *([row.setting] if row.setting else []))
    flat = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    nested = json.loads((tmp_path / "out" / "hf_quant_config.json").read_text())["quantization"]
    assert nested["quant_algo"] == flat["quant_algo"] == FOLDED.get(name, name)
    assert nested["exclude_modules"] == flat["ignore"]
    for key in ("group_size", "quantized_layers", "has_zero_point", "pre_quant_scale"):
        assert nested.get(key) == flat.get(key)
    wrong = {"modelopt-silent", "client-refuses"}  # of a client that does not read the algorithm
    assert {finding.rule for finding in report.findings if finding.severity == "error"} <= wrong
    assert {finding.rule for finding in report.findings if finding.severity == "warning"} == set()
    loads = tuple(client for client in ("vllm", "trtllm", "sglang") if report.loads(client))
    assert loads == row.clients or name in FOLDED


def test_blocks_of_sixteen_for_fp8_inputs_are_run_by_nobody(model, tmp_path):
    report = written(model, "nvfp4_fp8", tmp_path / "out")
    assert not report.loads("trtllm")
    told = [finding.why for finding in report.findings if finding.rule == "client-refuses"]
    assert any("blocks of 32, not of 16" in why for why in told)
