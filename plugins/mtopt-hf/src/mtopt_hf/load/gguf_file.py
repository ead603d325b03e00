"""A GGUF file as a model: weights in fp32, as exact as the file holds them, and its own tokenizer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer as TokenizerLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mtcore.errors import ModelError
from mtcore.export import SourceFiles
from mtopt_hf.load.construct import construct_model, log_warning
from mtopt_hf.load.gguf_header import read_header
from mtopt_hf.load.gguf_tokenizer import is_sentencepiece, rebuild_tokenizer


def load_gguf(
    file: Path, *, warn: Callable[[str], object] = log_warning
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None, SourceFiles]:
    """The model in a GGUF file, its tokenizer, and what a checkpoint directory needs beside the weights.

    The weights are dequantized to fp32: no narrower type holds a scaled 4-bit code exactly.

    Args:
        warn: is told of tensors that fit no part of the model.

    Raises:
        ModelError: the file is damaged or cut short, or transformers does not know its architecture.
    """
    header = read_header(file)
    model = construct_model(str(file.parent), {}, warn=warn, gguf_file=file.name, dtype=torch.float32)
    _forget_origin(model)
    tokenizer = _tokenizer(file, header.values)
    config = json.loads(model.config.to_json_string(use_diff=True))
    for key in ("quantization_config", "_model_name_or_path"):
        config.pop(key, None)
    config["architectures"] = [type(model).__name__]
    return model, tokenizer, SourceFiles(config=config, texts=_texts(model, tokenizer))


def _forget_origin(model: Any) -> None:
    """The weights are plain floats now; transformers would refuse to save what it takes for a GGUF model."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _tokenizer(file: Path, values: Mapping[str, Any]) -> PreTrainedTokenizerBase | None:
    if "tokenizer.ggml.tokens" not in values:
        return None
    if is_sentencepiece(values):
        return rebuild_tokenizer(values)
    try:
        tokenizer: PreTrainedTokenizerBase = TokenizerLoader.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # the tokenizers library raises bare Exception for what it does not understand
        raise ModelError(f"{file}: its tokenizer cannot be read: {error}") from error
    return tokenizer


def _texts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> dict[str, str]:
    """The companion files as transformers writes them, by name."""
    with tempfile.TemporaryDirectory() as folder:
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(folder)
        written = sorted(file for file in Path(folder).iterdir() if file.is_file())
        return {file.name: file.read_text(encoding="utf-8") for file in written}
