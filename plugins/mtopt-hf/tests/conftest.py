"""A tiny random Llama with grouped queries and a tokenizer of bytes, saved once as a checkpoint directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mtcore.export import Artifact, SourceFiles
from mtcore.formats import TensorFormat
from mtcore.numerics import dequantize, quantize
from mtcore.testing.exporters import toy_artifact

TINY = {
    "vocab_size": 258,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 257,
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, ids 0 … 255, then begin and end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def tiny_llama() -> LlamaForCausalLM:
    """fp32, tied off, seeded. Do not change it."""
    torch.manual_seed(7)
    return LlamaForCausalLM(LlamaConfig(**TINY, tie_word_embeddings=False)).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def llama_checkpoint(tiny_llama: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama and its tokenizer as transformers saves them. Do not change it."""
    folder = tmp_path_factory.mktemp("llama")
    tiny_llama.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def llama_copy(llama_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may damage."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in llama_checkpoint.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """10,800 bytes of text."""
    file = tmp_path / "text.txt"
    file.write_text("".join(f"line {number:04d} of text\n" for number in range(600)), encoding="utf-8")
    return file


@pytest.fixture
def edit_config(llama_copy: Path):
    """Change keys of the copy's config.json; None removes one."""

    def edit(**changes: object) -> Path:
        config = json.loads((llama_copy / "config.json").read_text())
        for key, value in changes.items():
            config.pop(key, None) if value is None else config.__setitem__(key, value)
        (llama_copy / "config.json").write_text(json.dumps(config))
        return llama_copy

    return edit


@pytest.fixture
def fp16_scaled() -> Callable[[TensorFormat], Artifact]:
    """Makes a toy artifact in a format, whose scales are fp16 numbers."""

    def make(fmt: TensorFormat) -> Artifact:
        made = toy_artifact(fmt, None, SourceFiles({"architectures": ["Toy"]}))
        modules = {}
        for name, module in made.modules.items():
            q = module.weights["weight"]
            rounded = replace(q.qparams, scale=q.qparams.scale.half().float())
            modules[name] = replace(module, weights={"weight": quantize(dequantize(q), rounded)})
        return replace(made, modules=modules)

    return make
