"""What the linter says of transformers, held against transformers: checkpoints of ours that it opens, and how."""

from __future__ import annotations

import copy
import json
import logging
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationScheme
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.quantization import plan_model, quantize
from mtopt_hf.as_client import compute_as_transformers
from mtopt_hf.ct import client_problems
from mtopt_hf.reload import open_as_client

IDS = torch.arange(24).view(2, 12) * 5 % 64


def recipe(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [*rules, {"include": "base_exclusions"}], "algorithm": "max", "max_unquantized": 1.0}


FP8 = {"weight": "fp8", "input": "fp8"}
NVFP4 = {"weight": "nvfp4", "input": {"format": "nvfp4", "mode": "dynamic_blocks"}}
ATTENTION, EXPERTS = {"modules": ["*self_attn*"]}, {"modules": ["*experts*"]}
INT4 = {"weight": "int4_b32"}


SIZES = {
    "vocab_size": 64, "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 32,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def moe() -> Qwen3MoeForCausalLM:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(**SIZES, moe_intermediate_size=64, num_experts=4, num_experts_per_tok=2)
    model = Qwen3MoeForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def written(model: Any, config: Any, folder: Path, dialect: str = "compressed-tensors") -> Any:
    """The quantized model, whose checkpoint lies in `folder` then."""
    quantized = quantize(copy.deepcopy(model), config, [{"input_ids": IDS}])
    source = SourceFiles(config={**model.config.to_dict(), "architectures": [type(model).__name__]})
    export_model(quantized, folder, dialect=dialect, source=source)
    return quantized


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(IDS).logits
    return found


def rules(report: Any) -> set[str]:
    return {finding.rule for finding in report.findings if finding.severity == "error"}


@pytest.mark.parametrize(
    "config",
    [
        "fp8",
        recipe(INT4),
        "mxfp4",
        recipe(ATTENTION | FP8, EXPERTS | INT4),
        recipe(ATTENTION | FP8),
        recipe(EXPERTS | FP8),
    ],
    ids=["fp8", "int4", "mxfp4", "fp8 and int4", "fp8 attention", "fp8 experts"],
)
def test_experts_without_a_complaint_have_the_logits_of_the_client(moe, judge, tmp_path, config) -> None:
    quantized = written(moe, config, tmp_path / "c")
    assert judge(tmp_path / "c", "transformers").loads("transformers")
    assert not client_problems("hf", plan_model(copy.deepcopy(moe), config, inputs={"input_ids": IDS}))
    compute_as_transformers(quantized)
    assert torch.equal(logits(open_as_client(tmp_path / "c", torch.float32)), logits(quantized))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("int8", "it raises"),
        (recipe({"weight": "int4_b32_asym"}), "it raises"),
        (recipe(ATTENTION | INT4), "raises for this one, which is in floats"),
    ],
    ids=["int8", "zero points", "int4 attention alone"],
)
def test_experts_that_transformers_does_not_open_are_an_error(moe, judge, tmp_path, config, said) -> None:
    written(moe, config, tmp_path / "c")
    report = judge(tmp_path / "c", "transformers")
    [found] = [finding for finding in report.findings if finding.rule == "experts-decoded"]
    assert said in found.why
    assert client_problems("hf", plan_model(copy.deepcopy(moe), config, inputs={"input_ids": IDS}))
    with pytest.raises(RuntimeError):
        AutoModelForCausalLM.from_pretrained(tmp_path / "c", dtype=torch.float32)


def test_nvfp4_experts_open_without_an_error_and_with_other_logits_which_is_an_error(moe, judge, tmp_path) -> None:
    quantized = written(moe, "nvfp4", tmp_path / "c")
    [found] = [f for f in judge(tmp_path / "c", "transformers").findings if f.rule == "experts-decoded"]
    assert "without an error" in found.why
    theirs = logits(open_as_client(tmp_path / "c", torch.float32))
    read, bare = copy.deepcopy(quantized), quantized
    compute_as_transformers(read)
    assert (logits(read) - theirs).norm() > 0.5 * theirs.norm()
    compute_as_transformers(bare, experts_bare=True)
    assert torch.equal(logits(bare), theirs)


def test_experts_in_two_formats_get_wrong_values_and_are_an_error(moe, judge, tmp_path) -> None:
    first, second = (
        {"modules": [f"*.{n}.mlp.experts*"], "weight": fmt} for n, fmt in enumerate(("fp8", "fp8_row"))
    )
    config = recipe(first, second)
    written(moe, config, tmp_path / "c")
    assert rules(judge(tmp_path / "c", "transformers")) == {"experts-decoded"}
    [problem] = client_problems("hf", plan_model(copy.deepcopy(moe), config, inputs={"input_ids": IDS}))
    assert "give them one format" in problem


@pytest.mark.parametrize(
    ("config", "opens"), [("fp8", True), ("fp8_row", True), ("nvfp4", False)], ids=["fp8", "fp8_row", "nvfp4"]
)
def test_modelopt_is_an_error_and_the_linter_says_whether_it_opens_nevertheless(
    tiny_llama: LlamaForCausalLM, judge, tmp_path, config, opens, caplog
) -> None:
    quantized = written(tiny_llama, config, tmp_path / "c", "modelopt")
    [found] = [f for f in judge(tmp_path / "c", "transformers").findings if f.rule == "modelopt-silent"]
    assert found.severity == "error"
    assert ("the logits are wrong without an error" in found.why) == opens
    assert ("it raises" in found.why) == (not opens)
    caplog.set_level(logging.CRITICAL)
    if not opens:
        with pytest.raises(RuntimeError):
            AutoModelForCausalLM.from_pretrained(tmp_path / "c", dtype=torch.float32)
        return
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "c", dtype=torch.float32).eval()
    difference = logits(opened) - logits(quantized)
    assert difference.norm() > 0.5 * logits(quantized).norm()


def test_zero_points_open_by_the_way_that_the_linter_names_alone(
    tiny_llama: LlamaForCausalLM, judge, tmp_path
) -> None:
    quantized = written(tiny_llama, recipe({"weight": "int4_b32_asym"}), tmp_path / "c")
    report = judge(tmp_path / "c", "transformers")
    assert report.loads("transformers")
    [found] = [finding for finding in report.findings if finding.rule == "zero-points"]
    assert (found.severity, "CompressedTensorsConfig(dequantize=True)" in found.todo) == ("warning", True)
    with pytest.raises(RuntimeError):
        AutoModelForCausalLM.from_pretrained(tmp_path / "c", dtype=torch.float32)
    assert torch.equal(logits(open_as_client(tmp_path / "c", torch.float32)), logits(quantized))


@pytest.mark.parametrize(
    ("dialect", "config", "package"),
    [
        ("awq", recipe({"weight": "int4_b32_asym"}), "gptqmodel"),
        ("gptq", recipe({"weight": "int4_b32"}), "optimum"),
        ("fp8", "fp8_block", "accelerate"),
    ],
    ids=["awq", "gptq", "fp8"],
)
def test_it_says_which_packages_a_dialect_needs(judge, tmp_path, dialect, config, package) -> None:
    written(LlamaForCausalLM(LlamaConfig(**SIZES)), config, tmp_path / "c", dialect)
    assert package in judge(tmp_path / "c", "transformers").readings["transformers"].how
    if dialect != "fp8":  # accelerate is there; without a GPU the weights are decoded
        with pytest.raises(ImportError, match=package):
            AutoModelForCausalLM.from_pretrained(tmp_path / "c")


@pytest.mark.parametrize("recipe", ["nvfp4_weight_only", "mxfp4_weight_only", "mxfp8"])
def test_fp4_and_mx_are_written_for_bf16_and_fail_in_a_model_of_another_dtype(judge, tmp_path, recipe) -> None:
    written(LlamaForCausalLM(LlamaConfig(**SIZES)), recipe, tmp_path / "c")
    assert judge(tmp_path / "c", "transformers").loads("transformers")
    assert logits(AutoModelForCausalLM.from_pretrained(tmp_path / "c")).dtype == torch.bfloat16
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    (tmp_path / "c" / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    assert rules(judge(tmp_path / "c", "transformers")) == {"bf16-only"}
    with pytest.raises(RuntimeError, match="same dtype"):
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "c"))


@pytest.mark.parametrize("bits", [3, 4])
def test_columns_that_do_not_fill_a_group_are_an_error_and_are_not_decoded(peer, judge, tmp_path, bits) -> None:
    draft, columns = peer("lc-w4a16"), 136
    name = draft.first("up_proj.weight_packed").removesuffix(".weight_packed")
    rows = draft.tensors[f"{name}.weight_packed"][1][0]
    words, groups = -(-columns * bits // 32), -(-columns // 128)
    for group in draft.quantization["config_groups"].values():
        group["weights"]["num_bits"] = bits
    draft.put(f"{name}.weight_packed", "I32", [rows, words])
    draft.put(f"{name}.weight_scale", "BF16", [rows, groups], b"\x80\x3f" * rows * groups)
    draft.put(f"{name}.weight_shape", "I64", [2], struct.pack("<qq", rows, columns))
    found = judge(draft.write(tmp_path / "c"), "transformers").findings
    assert f"{columns} input features are not a multiple of 128" in str([f.why for f in found if f.where == name])
    scheme = QuantizationScheme(**draft.group)
    stored = {
        "weight_packed": torch.zeros(rows, words, dtype=torch.int32),
        "weight_scale": torch.ones(rows, groups),
        "weight_shape": torch.tensor([rows, columns]),
    }
    with pytest.raises(ValueError, match="group_size"):
        PackedQuantizationCompressor.decompress(stored, scheme)


def test_experts_that_transformers_takes_apart_itself_are_decoded_as_layers(judge, tmp_path) -> None:
    torch.manual_seed(0)
    config = Llama4TextConfig(
        **SIZES, intermediate_size_mlp=128, num_local_experts=4, interleave_moe_layer_step=1, pad_token_id=0
    )
    model = Llama4ForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    quantized = written(model, "nvfp4", tmp_path / "c")
    assert judge(tmp_path / "c", "transformers").loads("transformers")
    compute_as_transformers(quantized)
    opened = open_as_client(tmp_path / "c", torch.float32)
    assert torch.equal(logits(opened), logits(quantized))


@pytest.mark.parametrize("local", ["embedding_hidden_mapping_in", "embeddings.word_embeddings"])
def test_a_name_like_that_of_an_embedding_counts_only_where_the_architecture_has_no_linear_layer_there(
    peer, judge, tmp_path, local
) -> None:
    draft = peer("lc-nvfp4")
    draft.config.update(model_type="rembert", architectures=["RemBertForCausalLM"], is_decoder=True)
    old = draft.first("up_proj.weight_packed").removesuffix(".weight_packed")
    place = f"rembert.{'encoder.' if 'mapping' in local else ''}{local}"
    for name in [name for name in draft.tensors if name.startswith(f"{old}.")]:
        draft.tensors[name.replace(old, place)] = draft.tensors.pop(name)
    found = judge(draft.write(tmp_path / "c"), "transformers").findings
    assert any(one.rule == "embedding-quantized" for one in found) == ("mapping" not in local)
