"""Where transformers stops while it opens a checkpoint: what the linter says beforehand, and what happens."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import CompressedTensorsConfig

from mtcore.export import SourceFiles
from mtcore.flow import export_model
from mtcore.quantization import quantize
from mtopt_hf.as_client import compute_as_transformers
from mtopt_hf.checkpoint.opening import stops_of
from mtopt_hf.quantizer import registered

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = torch.arange(24).view(2, 12) * 5 % 64
RULES = [{"include": "base_exclusions"}]
INT4 = {"rules": [{"weight": "int4_b32"}, *RULES], "algorithm": "max", "max_unquantized": 1.0}


def built(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    cls = getattr(transformers, name)
    model = cls(cls.config_class(**SIZES, **options)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def written(model: Any, recipe: Any, folder: Path) -> Any:
    quantized = quantize(copy.deepcopy(model), recipe, [{"input_ids": IDS}])
    source = SourceFiles(config={**model.config.to_dict(), "architectures": [type(model).__name__]})
    export_model(quantized, folder, source=source)
    return quantized


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


def test_first_values_of_a_packed_layer_stop_it_and_decoding_while_loading_does_not(judge, tmp_path) -> None:
    model = built("GPTBigCodeForCausalLM", n_inner=64, n_positions=64, attn_pdrop=0.0)
    quantized = written(model, INT4, tmp_path / "c")
    [found] = [one for one in judge(tmp_path / "c", "transformers").findings if one.severity == "error"]
    assert (found.rule, found.where) == ("opening", "transformer.h.0.attn")
    with pytest.raises(AttributeError, match="weight"):
        type(model).from_pretrained(tmp_path / "c", dtype=torch.float32)
    assert "dequantize=True" in found.todo
    told = CompressedTensorsConfig(dequantize=True)
    opened = type(model).from_pretrained(tmp_path / "c", dtype=torch.float32, quantization_config=told).eval()
    assert torch.equal(logits(opened), logits(quantized))
    with registered():
        ours = type(model).from_pretrained(tmp_path / "c", dtype=torch.float32).eval()
    assert torch.equal(logits(ours), logits(quantized))


def test_codes_that_are_not_packed_do_not_stop_it(judge, tmp_path) -> None:
    model = built("GPTBigCodeForCausalLM", n_inner=64, n_positions=64, attn_pdrop=0.0)
    quantized = written(model, "fp8", tmp_path / "c")
    assert judge(tmp_path / "c", "transformers").loads("transformers")
    opened = type(model).from_pretrained(tmp_path / "c", dtype=torch.float32).eval()
    assert torch.equal(logits(opened), logits(quantized))


@pytest.fixture(scope="module")
def hybrid() -> Any:
    return built(
        "OlmoHybridForCausalLM", intermediate_size=64, num_key_value_heads=2, pad_token_id=0,
        layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=2,
        linear_key_head_dim=16, linear_value_head_dim=16,
    )  # fmt: skip


@pytest.mark.parametrize(("recipe", "loads"), [(INT4, False), ("fp8", True)], ids=["int4", "fp8"])
def test_convolutions_that_are_joined_are_looked_for_as_packed_codes(
    hybrid, judge, tmp_path, recipe, loads
) -> None:
    written(hybrid, recipe, tmp_path / "c")
    report = judge(tmp_path / "c", "transformers")
    assert report.loads("transformers") == loads
    if loads:
        type(hybrid).from_pretrained(tmp_path / "c", dtype=torch.float32)
        return
    [found] = [one for one in report.findings if one.severity == "error"]
    assert found.rule == "opening"
    assert "conv1d" in found.where
    with pytest.raises(RuntimeError, match="conversion"):
        type(hybrid).from_pretrained(tmp_path / "c", dtype=torch.float32)


def test_a_configuration_that_cannot_be_built_is_not_this_rules_business() -> None:
    assert stops_of({"model_type": "no such", "quantization_config": {}}, ["a.weight_packed"]) == []
    with pytest.raises(StrictDataclassFieldValidationError):
        stops_of({"model_type": "llama", "hidden_size": "wide", "quantization_config": {}}, ["a.weight_packed"])


def test_looking_first_changes_nothing_of_what_transformers_opens(tmp_path) -> None:
    """Tables that are imported while tensors are made on meta would have no values afterwards."""
    model = built("LlamaForCausalLM", intermediate_size=64)
    quantized = written(model, "nvfp4_weight_only", tmp_path / "c")
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    look = f"""
import sys, torch, transformers
from mtopt_hf.as_client import compute_as_transformers
from mtopt_hf.checkpoint.opening import stops_of
assert stops_of({config!r}, ["model.norm.weight"]) == []
from mtopt_hf.reload import open_as_client
model = open_as_client(__import__("pathlib").Path(sys.argv[1]), torch.float32)
torch.save(dict(model.named_parameters()), sys.argv[2])
"""
    subprocess.run([sys.executable, "-c", look, tmp_path / "c", tmp_path / "values"], check=True)
    compute_as_transformers(quantized)
    opened = torch.load(tmp_path / "values")
    for name, value in quantized.named_parameters():
        assert torch.equal(opened[name], value), name
