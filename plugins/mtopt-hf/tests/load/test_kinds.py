"""Models of other kinds than causal language models: loaded as what they are, quantized and opened again."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from mtcore.errors import ExportError, ModelError
from mtcore.flow import DataOptions, evaluate_checkpoint, load_checkpoint, plan_checkpoint, quantize_checkpoint
from mtcore.lint import lint, open_checkpoint
from mtcore.plugins import default_registry
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
    "encoder-decoder with embeddings of its own": lambda: BartForConditionalGeneration(
        BartConfig(
            vocab_size=99,
            d_model=64,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=96,
            decoder_ffn_dim=96,
            max_position_embeddings=64,
            decoder_start_token_id=0,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            forced_eos_token_id=None,
        )
    ),
    "multimodal": gemma3,
    "multimodal with names of its own on the hub": lambda: LlavaForConditionalGeneration(
        LlavaConfig(
            text_config=LlamaConfig(**TEXT),
            vision_config=CLIPVisionConfig(**VISION, projection_dim=32),
            image_token_index=98,
        )
    ),
    "two towers": lambda: CLIPModel(
        CLIPConfig(
            text_config={**TEXT, "max_position_embeddings": 32, "eos_token_id": 2},
            vision_config=VISION,
            projection_dim=32,
        )
    ),
    "images": lambda: ViTForImageClassification(
        ViTConfig(
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=96,
            image_size=28,
            patch_size=14,
            num_labels=5,
        )
    ),
    "sound": lambda: WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=99,
            d_model=64,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=96,
            decoder_ffn_dim=96,
            num_mel_bins=8,
            max_source_positions=10,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    ),
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**TEXT, tie_word_embeddings=True)),
}
STATIC = {"rules": [{"weight": "fp8", "input": "fp8"}, {"include": "base_exclusions"}], "algorithm": "max"}
CONVOLUTIONS = {"type": "nn.Conv*", "skip": True}
RULES = {"rules": [{"weight": "fp8_row", "input": {"format": "fp8_row", "mode": "dynamic"}}]}
RECIPE = {"rules": [*RULES["rules"], {"include": "base_exclusions"}, CONVOLUTIONS], "algorithm": "max"}


@pytest.fixture(params=MODELS)
def checkpoint(request, tmp_path):
    torch.manual_seed(0)
    MODELS[request.param]().eval().save_pretrained(tmp_path / "model", max_shard_size="100KB")
    assert (tmp_path / "model" / "model.safetensors.index.json").exists()
    return tmp_path / "model"


def logits_of(model, loaded):
    found = model(**loaded.example_inputs)
    return found.logits_per_text if hasattr(found, "logits_per_text") else found.logits


def test_it_is_loaded_quantized_and_opened_again_with_equal_logits(checkpoint, tmp_path):
    loaded = load_checkpoint(str(checkpoint))
    name = json.loads((checkpoint / "config.json").read_text())["architectures"][0]
    assert type(loaded.model).__name__ == name
    quantize_checkpoint(str(checkpoint), RECIPE, tmp_path / "out")
    client = load_checkpoint(str(tmp_path / "out")).model
    with registered():
        ours = type(loaded.model).from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = logits_of(ours, loaded)
        assert torch.equal(logits_of(client, loaded), logits)
        assert not torch.equal(logits_of(loaded.model, loaded), logits)


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


def inputs_file(folder, loaded):
    """Three samples of what the model is traced with, as a user stores what a processor gives."""
    tensors = {n: v for n, v in loaded.example_inputs.items() if isinstance(v, torch.Tensor)}
    rows = {
        n: torch.cat([v] * 3) if v.dtype == torch.int64 else torch.randn(3, *v.shape[1:])
        for n, v in tensors.items()
    }
    save_file(rows, folder / "inputs.safetensors")
    return str(folder / "inputs.safetensors")


def test_static_scales_come_from_named_tensors_and_lint_is_silent(checkpoint, tmp_path):
    loaded = load_checkpoint(str(checkpoint))
    data = DataOptions(samples=3, batch_size=2, format="tensors")
    recipe = {**STATIC, "rules": [*STATIC["rules"], CONVOLUTIONS]}
    quantize_checkpoint(str(checkpoint), recipe, tmp_path / "out", calib=inputs_file(tmp_path, loaded), data=data)
    registry = default_registry()
    clients = [registry.clients[name] for name in ("vllm", "transformers", "sglang")]
    report = lint(open_checkpoint(tmp_path / "out"), clients, registry.lint_rules.values())
    assert [finding for finding in report.findings if finding.severity != "note"] == []


@pytest.mark.parametrize("checkpoint", ["encoder-decoder"], indirect=True)
def test_text_goes_to_both_sides_of_an_encoder_decoder(checkpoint, tmp_path):
    (tmp_path / "ids.jsonl").write_text(json.dumps(list(range(1, 65))))
    data = DataOptions(samples=4, length=16, format="ids")
    quantize_checkpoint(str(checkpoint), STATIC, tmp_path / "out", calib=str(tmp_path / "ids.jsonl"), data=data)
    scales = open_checkpoint(tmp_path / "out").tensors
    assert "decoder.block.1.layer.1.EncDecAttention.k.input_scale" in scales


@pytest.mark.parametrize("checkpoint", ["images"], indirect=True)
def test_a_layer_that_no_dialect_holds_is_refused_with_the_rule_that_leaves_it_out(checkpoint, tmp_path):
    pattern = "vit.embeddings.patch_embeddings.projection"
    with pytest.raises(ExportError, match=r"not Conv2d; leave it out: --set 'rules\.\+=") as caught:
        quantize_checkpoint(str(checkpoint), STATIC, tmp_path / "out", calib=[{"pixel_values": torch.zeros(1)}])
    assert f'{{modules: ["{pattern}"], skip: true}}' in str(caught.value)


@pytest.mark.parametrize("checkpoint", ["encoder", "encoder-decoder", "images", "sound"], indirect=True)
def test_perplexity_is_refused_where_no_next_token_is_predicted(checkpoint, tmp_path):
    with pytest.raises(ModelError, match="is no causal language model"):
        evaluate_checkpoint(str(checkpoint), text=str(tmp_path / "never-read.txt"))


@pytest.mark.parametrize("checkpoint", ["multimodal with names of its own on the hub"], indirect=True)
def test_data_with_images_let_the_trace_see_the_vision_tower(checkpoint, tmp_path):
    images = {"input_ids": torch.tensor([[1, *[98] * 4, 2]] * 2), "pixel_values": torch.randn(2, 3, 28, 28)}
    save_file(images, tmp_path / "images.safetensors")
    tower = {"modules": "*vision_tower*", "type": "nn.Linear", "weight": "fp8", "input": "fp8"}
    recipe = {**STATIC, "rules": [*STATIC["rules"], tower]}
    data = DataOptions(samples=2)
    summary = quantize_checkpoint(
        str(checkpoint), recipe, tmp_path / "out", calib=str(tmp_path / "images.safetensors"), data=data
    )
    shared = {group.modules for group in summary.plan.groups}
    parts = tuple(f"model.vision_tower.encoder.layers.0.self_attn.{part}_proj" for part in "kvq")
    assert any(set(parts) == set(modules) for modules in shared)
