"""Batches that say nothing of a cache give what batches without one give: attention's, a recurrence's, or both."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BambaConfig,
    BambaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)

import mtcore

SIZES: dict[str, Any] = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}
ALGORITHMS: dict[str, Any] = {
    "awq": "awq",
    "gptq": "gptq",
    "gptq of blocks": {"method": "gptq", "sequential": "blocks"},
    "local_hessian": "local_hessian",
    "svdquant": {"method": "svdquant", "rank": 4, "strong": "outputs"},
    "autoround": {"method": "autoround", "steps": 4},
}


def make(name: str) -> PreTrainedModel:
    torch.manual_seed(3)
    if name == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS)).eval()
    if name == "mamba":
        return MambaForCausalLM(MambaConfig(**SIZES, state_size=4)).eval()
    recurrence = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 8, "mamba_n_groups": 1}
    return BambaForCausalLM(BambaConfig(**SIZES, **HEADS, **recurrence, attn_layer_indices=[1])).eval()


def quantized(name: str, algorithm: str, **more: object) -> dict[str, torch.Tensor]:
    recipe = {
        "rules": [{"weight": "fp8", "input": "fp8"}, {"modules": ["*.conv1d", "*.dt_proj"], "skip": True}],
        "algorithm": ALGORITHMS[algorithm],
        "max_unquantized": 1.0,
    }
    ids = torch.randint(64, (3, 2, 16), generator=torch.Generator().manual_seed(0))
    return mtcore.quantize(make(name), recipe, [{"input_ids": x, **more} for x in ids]).state_dict()


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        *(("llama", algorithm) for algorithm in ALGORITHMS),
        *((name, algorithm) for name in ("mamba", "bamba") for algorithm in ("gptq", "autoround")),
    ],
)
def test_a_cache_that_blocks_change_does_not_touch_the_result(name: str, algorithm: str) -> None:
    plain, without = quantized(name, algorithm), quantized(name, algorithm, use_cache=False)
    assert plain.keys() == without.keys()
    assert all(torch.equal(value, without[key]) for key, value in plain.items())
