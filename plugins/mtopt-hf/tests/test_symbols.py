"""Heads and experts of transformers' models become symbols, read off the trace."""

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from mtcore.trace import analyze_symbols

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
HEADS = {"num_kv_heads": "searchable", "num_heads": "dynamic"}
MODELS = {
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**SIZES)), {"model.layers.1.self_attn": HEADS}),
    "gpt2": (lambda: GPT2LMHeadModel(GPT2Config(**GPT2)), {"transformer.h.1.attn": HEADS}),
    "mixtral": (
        lambda: MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4)),
        {"model.layers.1.self_attn": HEADS, "model.layers.1.mlp": {"num_experts": "searchable"}},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_heads_and_experts_are_symbols_of_the_module_that_owns_them(name):
    torch.manual_seed(0)
    make, wanted = MODELS[name]
    symbols = analyze_symbols(make(), {"input_ids": torch.randint(0, 64, (2, 32))})
    for module, states in wanted.items():
        assert {n: symbols.get_symbol(module, n).state for n in states} == states
