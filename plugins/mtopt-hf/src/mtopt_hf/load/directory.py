"""A Hugging Face checkpoint directory: checked, then loaded without running any code of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers import AutoTokenizer as TokenizerLoader

from mtcore.errors import ModelError
from mtcore.export import ARTIFACT_FILE, SourceFiles
from mtopt_hf.load.construct import LOADING_ERRORS, construct_model, log_warning, open_quantized
from mtopt_hf.load.source import CODE_PREFIX
from mtopt_hf.load.weight_files import check_weight_files, read_json

CONFIG = "config.json"
COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
"""Files that go with a model unchanged, where they exist. No weights, no code."""

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def load_directory(
    folder: Path, *, code: bool = False, warn: Callable[[str], object] = log_warning
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None, SourceFiles]:
    """The model of a checkpoint directory, its tokenizer (None where it has none), and its companions.

    Args:
        code: whether the Python files that lie there may run; they go with the model then.
        warn: is told of tensors that fit no part of the model.

    Raises:
        ModelError: no model is there, a file is damaged, or it would need code of its own to run.
    """
    config = read_config(folder, code=code)
    check_weight_files(folder)
    if quantized_as(config) is None:
        model = construct_model(str(folder), config, warn=warn, trust_remote_code=code)
    else:
        model = open_quantized(folder, warn=warn)
    files = {**companions(folder), **({file.name: file for file in folder.glob("*.py")} if code else {})}
    return model, load_tokenizer(folder, code=code), SourceFiles(config=config, files=files)


def read_config(folder: Path, *, code: bool = False) -> dict[str, Any]:
    """The content of config.json, after transformers agreed that it knows this architecture.

    Raises:
        ModelError: there is none, it is damaged, or the architecture is unknown here.
    """
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder}: {_not_a_model(folder)}")
    config = read_json(folder / CONFIG)
    if "model_type" not in config:
        raise ModelError(f"{folder / CONFIG}: it names no model_type, so this is no Hugging Face model")
    method = quantized_as(config)
    if method not in (None, "compressed-tensors"):
        raise ModelError(
            f"{folder}: it is quantized already ({method}); start from the original weights. "
            "Of quantized checkpoints only compressed-tensors can be opened"
        )
    try:
        AutoConfig.from_pretrained(folder, trust_remote_code=code)
    except (*LOADING_ERRORS, StrictDataclassError) as error:
        reason = f"transformers cannot use model_type {config['model_type']!r}: {first_line(error)}"
        if "trust_remote_code" in str(error):
            reason = (
                "its architecture is defined by code in the checkpoint, which is not run; "
                f"if you trust it, say {CODE_PREFIX}{folder}"
            )
        raise ModelError(f"{folder / CONFIG}: {reason}") from error
    return config


def companions(folder: Path) -> Mapping[str, Path]:
    """The companions that exist in a directory, by name."""
    found = {name: folder / name for name in COMPANIONS if (folder / name).is_file()}
    templates = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    return found | {f"additional_chat_templates/{file.name}": file for file in templates}


def load_tokenizer(folder: Path, *, code: bool = False) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a directory, or None where it has none; `code`: whether Python files there may run.

    Raises:
        ModelError: its files are damaged, or it would need code of its own.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None
    try:
        tokenizer: PreTrainedTokenizerBase = TokenizerLoader.from_pretrained(folder, trust_remote_code=code)
    except Exception as error:  # the tokenizers library raises bare Exception for damaged files
        if not code and "trust_remote_code" in str(error):
            raise ModelError(
                f"{folder}: its tokenizer is defined by code in the checkpoint, which is not run; "
                f"if you trust it, say {CODE_PREFIX}{folder}"
            ) from error
        raise ModelError(f"{folder}: its tokenizer cannot be opened: {first_line(error)}") from error
    return tokenizer


def first_line(error: BaseException) -> str:
    """The first line of an error's text: the others are advice for another program."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def quantized_as(config: Mapping[str, Any]) -> str | None:
    """The method by which a checkpoint is quantized, or None where it is not."""
    quantization = config.get("quantization_config")
    return str(quantization.get("quant_method")) if isinstance(quantization, Mapping) else None


def _not_a_model(folder: Path) -> str:
    if (folder / ARTIFACT_FILE).is_file():
        return (
            "this is an artifact, from which checkpoints are written, and no model; "
            f"`mtopt export {folder} --to NAME -o OUT` writes one"
        )
    gguf = sorted(file.name for file in folder.glob("*.gguf"))
    if gguf:
        return f"it has no {CONFIG}, but a GGUF file; name the file itself: {folder / gguf[0]}"
    inner = sorted(child.name for child in folder.iterdir() if (child / CONFIG).is_file())
    if inner:
        return f"it has no {CONFIG}, but a directory inside it has; did you mean {folder / inner[0]}?"
    return f"not a model: it has no {CONFIG}"
