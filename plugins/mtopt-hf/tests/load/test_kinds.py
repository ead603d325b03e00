"""Models of other kinds than causal language models: loaded as what they are, quantized and opened again."""

import json

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from mtcore.flow import load_checkpoint, plan_checkpoint, quantize_checkpoint
from mtopt_hf.quantizer import registered

TEXT = {
    "vocab_size": 99, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip


def gemma3():
    config = Gemma3Config(text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4, image_token_index=98)
    return Gemma3ForConditionalGeneration(config)


MODELS = {
    "encoder": lambda: BertForMaskedLM(
        BertConfig(vocab_size=99, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    ),
    "encoder-decoder": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=99, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4, decoder_start_token_id=0)
    ),
    "multimodal": gemma3,
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**TEXT, tie_word_embeddings=True)),
}
RULES = {"rules": [{"weight": "fp8_row", "input": {"format": "fp8_row", "mode": "dynamic"}}]}
RECIPE = {"rules": [*RULES["rules"], {"include": "base_exclusions"}], "algorithm": "max"}


@pytest.fixture(params=MODELS)
def checkpoint(request, tmp_path):
    torch.manual_seed(0)
    MODELS[request.param]().eval().save_pretrained(tmp_path / "model", max_shard_size="100KB")
    assert (tmp_path / "model" / "model.safetensors.index.json").exists()
    return tmp_path / "model"


def test_it_is_loaded_quantized_and_opened_again_with_equal_logits(checkpoint, tmp_path):
    loaded = load_checkpoint(str(checkpoint))
    name = json.loads((checkpoint / "config.json").read_text())["architectures"][0]
    assert type(loaded.model).__name__ == name
    quantize_checkpoint(str(checkpoint), RECIPE, tmp_path / "out")
    client = load_checkpoint(str(tmp_path / "out")).model
    with registered():
        ours = type(loaded.model).from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = ours(**loaded.example_inputs).logits
        assert torch.equal(client(**loaded.example_inputs).logits, logits)
        assert not torch.equal(loaded.model(**loaded.example_inputs).logits, logits)


@pytest.mark.parametrize("checkpoint", ["multimodal"], indirect=True)
def test_the_vision_tower_stays_by_rule_and_is_quantized_where_the_recipe_asks_for_it(checkpoint, tmp_path):
    inside = {"model.language_model.layers.0.mlp.up_proj": True}
    tower = "model.vision_tower.encoder.layers.0.mlp.fc1"
    plan = plan_checkpoint(str(checkpoint), RECIPE)
    assert {name: plan[name].quantized for name in inside} == inside
    assert not plan[tower].quantized
    assert "base_exclusions" in plan[tower].reason
    with_vision = {**RECIPE, "rules": [*RECIPE["rules"], {"modules": ["*vision_tower*"], **RULES["rules"][0]}]}
    assert plan_checkpoint(str(checkpoint), with_vision)[tower].quantized


@pytest.mark.parametrize("checkpoint", ["tied"], indirect=True)
def test_tied_embeddings_are_written_once_and_stay_tied(checkpoint, tmp_path):
    quantize_checkpoint(str(checkpoint), RECIPE, tmp_path / "out")
    with registered():
        opened = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert opened.lm_head.weight is opened.model.embed_tokens.weight


@pytest.mark.parametrize("checkpoint", ["tied"], indirect=True)
@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}, "auto"])
def test_a_device_map_is_followed(checkpoint, device_map, tmp_path):
    quantize_checkpoint(str(checkpoint), RECIPE, tmp_path / "out")
    ids = torch.arange(8)[None]
    with registered(), torch.inference_mode():
        mapped = LlamaForCausalLM.from_pretrained(tmp_path / "out", device_map=device_map).eval()
        plain = LlamaForCausalLM.from_pretrained(tmp_path / "out").eval()
        assert torch.equal(mapped(ids).logits, plain(ids).logits)
