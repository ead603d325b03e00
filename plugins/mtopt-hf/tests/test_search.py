"""A search of transformers' models: experts are one decision, a tied head is none, recipes make checkpoints."""

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from mtcore.flow import DataOptions, evaluate_checkpoint, quantize_checkpoint, search_checkpoint
from mtcore.opt import AS_IT_IS
from mtcore.plugins import Registry

SIZES = {
    "vocab_size": 258, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "bos_token_id": 256,
    "pad_token_id": 257,
}  # fmt: skip
MIXTURES = {
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 4}),
    "qwen3-moe": (
        Qwen3MoeForCausalLM,
        Qwen3MoeConfig,
        {"moe_intermediate_size": 32, "num_experts": 4},
    ),
}
DATA = DataOptions(samples=4, length=64, batch_size=2)


@pytest.fixture
def saved(llama_checkpoint, tmp_path):
    """saved(model): the folder of its checkpoint, with the tokenizer of the tiny Llama."""

    def save(cls, config):
        torch.manual_seed(3)
        folder = tmp_path / "model"
        cls(config).save_pretrained(folder)
        for file in llama_checkpoint.glob("*token*"):
            (folder / file.name).write_bytes(file.read_bytes())
        return str(folder)

    return save


@pytest.mark.parametrize("name", MIXTURES)
def test_experts_of_a_block_are_one_decision_and_the_recipe_gives_a_checkpoint(name, saved, text_file, tmp_path):
    cls, config, options = MIXTURES[name]
    source = saved(cls, config(**SIZES, num_experts_per_tok=2, **options))
    found = search_checkpoint(
        source, ["nvfp4", "fp8"], statistics=tmp_path / "kept", calib=str(text_file), data=DATA
    )
    parts = [d.modules for d in found.searcher.decisions if any("expert" in module for module in d.modules)]
    assert parts == [(f"model.layers.{layer}.mlp.experts",) for layer in range(2)]
    attention = ("q_proj", "k_proj", "v_proj")
    assert tuple(f"model.layers.0.self_attn.{part}" for part in attention) in [
        d.modules for d in found.searcher.decisions
    ]
    assert not any("gate" in module.split(".")[-1] for d in found.searcher.decisions for module in d.modules)
    solution = found.searcher.solve(bits=6)
    recipe = tmp_path / "mixed.yaml"
    recipe.write_text(found.recipe(solution))
    out = tmp_path / "out"
    plan = quantize_checkpoint(source, recipe, out, calib=str(text_file), data=DATA).plan
    for decision, choice in zip(solution.decisions, solution.chosen, strict=True):
        for module in decision.modules:
            assert {slot.format.name for slot in plan[module].slots} == {choice} - {AS_IT_IS}
    assert evaluate_checkpoint(str(out), text=str(text_file), data=DATA).perplexity < 1000  # of 258 tokens


def test_a_tied_head_is_no_decision_and_is_counted_once(saved, text_file, tmp_path):
    source = saved(LlamaForCausalLM, LlamaConfig(**SIZES, tie_word_embeddings=True))
    everything = {"name": "all", "rules": [{"weight": "fp8_row"}], "max_unquantized": 1}
    registry = Registry.load()
    found = search_checkpoint(
        source, [everything], statistics=tmp_path / "kept", calib=str(text_file), data=DATA, registry=registry
    )
    assert not any("lm_head" in module for d in found.searcher.decisions for module in d.modules)
    kept = found.searcher.of([AS_IT_IS] * len(found.searcher.decisions))
    elements = sum(parameter.numel() for parameter in found.loaded.model.parameters())  # tied ones once
    assert kept.size_bytes == pytest.approx(4 * elements, abs=4 * 64)  # and the frequencies of positions
