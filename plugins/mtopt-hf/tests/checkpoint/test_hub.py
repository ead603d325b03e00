"""An artifact without quantized modules is what `save_pretrained` writes: same names, same tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto import CONFIG_MAPPING

from mtcore.errors import ExportError
from mtcore.export import Artifact, SourceFiles
from mtcore.formats.catalog import FP8
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtopt_hf.checkpoint import Pair, pairs_of
from mtopt_hf.checkpoint.hub import hub_view
from mtopt_hf.ct import write_checkpoint

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 24, "decoder_sparse_step": 1},
    "qwen3_moe": {**EXPERTS, "head_dim": 8},
    "mixtral": {"num_local_experts": 4},
    "gemma3_text": {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "hrm_text": {"head_dim": 8, "num_layers_per_stack": 1},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
}


def tiny(kind: str) -> PreTrainedModel:
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {kind}")
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**(SMALL | MODELS[kind]))
    return AutoModelForCausalLM.from_config(config).eval()


def config_of(model: PreTrainedModel) -> dict[str, Any]:
    config = json.loads(model.config.to_json_string())
    config["architectures"] = [type(model).__name__]
    return config


def unquantized(model: PreTrainedModel) -> Artifact:
    tensors, tied, seen = {}, {}, {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen:
            tied[name] = seen[tensor.data_ptr()]
        else:
            seen[tensor.data_ptr()] = name
            tensors[name] = tensor
    return Artifact(
        Plan("none", (), (), (), (), Coverage(1, 0, 0)), {}, tensors, tied, SourceFiles(config_of(model))
    )


@pytest.mark.parametrize("again", [False, True], ids=["made", "loaded"])
@pytest.mark.parametrize("kind", MODELS)
def test_plain_save_equals_save_pretrained(kind: str, again: bool, tmp_path: Path) -> None:
    model = tiny(kind)
    model.save_pretrained(tmp_path / "theirs")
    if again:
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    write_checkpoint(unquantized(model), tmp_path / "ours")
    ours, theirs = (load_file(tmp_path / who / "model.safetensors") for who in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor)
        assert ours[name].dtype == tensor.dtype
    assert "quantization_config" not in json.loads((tmp_path / "ours" / "config.json").read_text())


def linear(name: str) -> Pair:
    slot = SlotPlan("weight", FP8, "static", "by hand")
    return pairs_of(ModulePlan(name, "Linear", "nn.Linear", (("weight", (32, 32)),), (slot,), "by hand"))[0]


def test_experts_come_apart_and_quantized_modules_keep_their_place() -> None:
    model = tiny("mixtral")
    name = "model.layers.0.self_attn.q_proj"
    tensors = {k: v for k, v in model.state_dict().items() if k != "model.layers.0.self_attn.q_proj.weight"}
    view = hub_view(config_of(model), tensors, [linear(name)])
    assert [layer.name for layer in view.layers] == [name]
    assert "model.layers.0.self_attn.q_proj.weight" not in view.tensors
    assert any(".experts.3." in name for name in view.tensors)
    assert not any(tensor.dim() == 3 for tensor in view.tensors.values())


def test_quantized_module_follows_a_renaming() -> None:
    model = tiny("hrm_text")
    (name,) = (n for n, _ in model.named_modules() if n.endswith("L_module.layers.0.self_attn.o_proj"))
    tensors = {k: v for k, v in model.state_dict().items() if k != f"{name}.weight"}
    view = hub_view(config_of(model), tensors, [linear(name)])
    assert [layer.name for layer in view.layers] == [name.replace(".self_attn.", ".attn.")]


def test_quantized_weight_that_is_part_of_another_on_the_hub_is_refused_by_name() -> None:
    model = tiny("hrm_text")
    (name,) = (n for n, _ in model.named_modules() if n.endswith("L_module.layers.0.self_attn.q_proj"))
    tensors = {k: v for k, v in model.state_dict().items() if k != f"{name}.weight"}
    with pytest.raises(ExportError, match=r"q_proj: .*part of another tensor"):
        hub_view(config_of(model), tensors, [linear(name)])


def test_model_without_a_type_keeps_its_names() -> None:
    tensors = {"a.weight": torch.zeros(2, 2)}
    view = hub_view({}, tensors, [linear("b")], ["c.k_scale"])
    assert (view.tensors, view.layers[0].name, view.others) == (tensors, "b", {"c.k_scale": "c.k_scale"})
