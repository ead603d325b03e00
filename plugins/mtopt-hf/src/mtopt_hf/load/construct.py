"""Calling transformers' from_pretrained so that nothing is loaded wrongly in silence."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import CompressedTensorsConfig, PreTrainedModel

from mtcore.errors import ModelError
from mtopt_hf.load.left_over import some, tell_left_over
from mtopt_hf.load.model_class import model_class
from mtopt_hf.load.weight_files import read_json

_log = logging.getLogger("mtcore")

LOADING_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
    ImportError,
    SafetensorError,
)
"""What transformers is known to raise for a config that does not fit; each is passed on as its cause."""


def log_warning(text: str) -> None:
    """A line of the library's log."""
    _log.warning("%s", text)


def construct_model(
    folder: str, config: Mapping[str, Any], *, warn: Callable[[str], object] = log_warning, **arguments: Any
) -> PreTrainedModel:
    """The model of a directory, in eval mode, in the dtype that it is stored in.

    Args:
        folder: a checkpoint directory.
        config: content of its config.json; without an `architectures` that transformers has, a causal LM's.
        warn: is told of tensors that fit no part of the model.
        arguments: for `from_pretrained`; `gguf_file`, say.

    Raises:
        ModelError: transformers cannot build it, or weights are missing or of another shape.
    """
    options: dict[str, Any] = {"dtype": "auto", "trust_remote_code": False, "ignore_mismatched_sizes": True}
    loader = model_class(config)
    where = str(Path(folder, arguments.get("gguf_file", "")))
    try:
        model, info = loader.from_pretrained(folder, output_loading_info=True, **(options | arguments))
    except LOADING_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{where}: transformers cannot load it: {reason}") from error
    missing, mismatched = _names(info["missing_keys"]), _names(info["mismatched_keys"])
    if missing:
        raise ModelError(f"{where}: {len(missing)} weights of the model are not in its files: {some(missing)}")
    if mismatched:
        raise ModelError(
            f"{where}: {len(mismatched)} weights have another shape than config.json says: {some(mismatched)}"
        )
    settings = "config.json" if "gguf_file" not in arguments else "its header"
    tell_left_over(model, _names(info["unexpected_keys"]), where, settings, warn)
    result: PreTrainedModel = model.eval()
    return result.requires_grad_(False)


def open_quantized(
    folder: Path, dtype: torch.dtype | str = torch.float32, *, warn: Callable[[str], object] = log_warning
) -> PreTrainedModel:
    """The model of a compressed-tensors checkpoint as transformers and compressed-tensors run it.

    Weights have their float values: `code · scale`, worked out in the dtype of the model, to which the client also
    rounds the scales. In fp32 that is what `mtcore.numerics.dequantize` gives, bit for bit; NVFP4 weights are
    rounded to bf16 in between. Inputs are quantized and dequantized in each forward, in the dtype of the model.

    Weights with zero points are decoded while they are loaded (`dequantize=True`): otherwise transformers 5.23
    expects the zero points unpacked, and refuses the packed ones that compressed-tensors itself writes.

    Args:
        folder: a checkpoint directory.
        dtype: to compute in; "auto" is that of config.json.
        warn: see `construct_model`.

    Raises:
        ModelError: transformers cannot open it.
    """
    config = read_json(folder / "config.json")
    if _has_zero_points(config):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You passed `quantization_config`")  # as its own docs tell to
            decoded = CompressedTensorsConfig(dequantize=True)
            return construct_model(str(folder), config, warn=warn, dtype=dtype, quantization_config=decoded)
    model: Any = construct_model(str(folder), config, warn=warn, dtype=dtype)
    if not hasattr(getattr(model, "hf_quantizer", None), "compressor"):
        raise ModelError(f"{folder}: this is no compressed-tensors checkpoint")
    model.hf_quantizer.compressor.decompress_model(model)  # the library would do it in the first forward
    for parameter in model.parameters():
        # compressed-tensors 0.20 leaves FP4 weights in bf16: layers raise then, and merged experts compute in bf16
        if parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.to(model.dtype)
    result: PreTrainedModel = model
    return result


def _has_zero_points(config: Mapping[str, Any]) -> bool:
    """Whether any weights of a compressed-tensors configuration are asymmetric."""
    groups = (config.get("quantization_config") or {}).get("config_groups") or {}
    return any((group.get("weights") or {}).get("symmetric") is False for group in groups.values())


def predicts_next(model: PreTrainedModel) -> bool:
    """Whether logits at a position are of the next token, given the tokens before it and nothing else."""
    config: Any = model.config
    return model.can_generate() and not config.is_encoder_decoder


def _names(keys: Collection[Any]) -> list[str]:
    """transformers lists keys as text, or as tuples that start with the key."""
    return sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in keys)
