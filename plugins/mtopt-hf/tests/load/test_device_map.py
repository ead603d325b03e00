"""Models that accelerate spread over devices: quantized as any other where the weights are there, else refused."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate import dispatch_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

import mtcore
from mtcore.errors import PlanError
from mtcore.quantization import quantized_of

RECIPE = {
    "rules": [{"weight": "fp8", "input": "fp8", "modules": "*layers*"}, {"k": "fp8", "v": "fp8"}],
    "max_unquantized": 1.0,
}
PLACES = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
IDS = torch.arange(32).view(2, 16)


def moe() -> Qwen3MoeForCausalLM:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    return Qwen3MoeForCausalLM(config).eval()


@pytest.mark.parametrize("kind", ["dense", "experts"])
def test_a_model_whose_forwards_accelerate_wrapped_is_quantized_like_the_plain_one(
    kind: str, tiny_llama: LlamaForCausalLM
) -> None:
    plain = copy.deepcopy(tiny_llama) if kind == "dense" else moe()
    spread = copy.deepcopy(plain)
    places = {**PLACES, "model.layers.0": "cpu", "model.layers.1": "cpu"}
    dispatch_model(spread, places, main_device="cpu", force_hooks=True)
    assert "forward" in vars(spread.model.layers[1].self_attn.q_proj)
    expected = mtcore.quantize(plain, RECIPE, [{"input_ids": IDS}])
    quantized = mtcore.quantize(spread, RECIPE, [{"input_ids": IDS}])
    names = [{module.name for module in quantized_of(one).plan.quantized} for one in (expected, quantized)]
    assert names[0] == names[1]
    with torch.inference_mode():
        assert torch.equal(quantized(IDS).logits, expected(IDS).logits)
        assert torch.equal(mtcore.undo(quantized)(IDS).logits, mtcore.undo(expected)(IDS).logits)


def test_layers_on_the_disk_are_refused_by_name_and_the_model_runs_on(llama_checkpoint, tmp_path) -> None:
    places = {**PLACES, "model.layers.0": "cpu", "model.layers.1": "disk"}
    model = AutoModelForCausalLM.from_pretrained(
        llama_checkpoint, device_map=places, offload_folder=tmp_path, dtype=torch.float32
    ).eval()
    with torch.inference_mode():
        before = model(IDS).logits
    with pytest.raises(PlanError, match=r"model\.layers\.1\..* more: the weights are offloaded"):
        mtcore.quantize(model, RECIPE, [{"input_ids": IDS}])
    with torch.inference_mode():
        assert torch.equal(model(IDS).logits, before)
