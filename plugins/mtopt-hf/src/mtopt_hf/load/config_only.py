"""A model from its configuration alone: every parameter has its shape and no values; for planning and tracing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from mtcore.errors import ModelError
from mtcore.export import SourceFiles
from mtcore.trace import empty_weights
from mtopt_hf.load.construct import LOADING_ERRORS
from mtopt_hf.load.directory import CONFIG, first_line, read_config
from mtopt_hf.load.model_class import build_empty


def load_config_only(folder: Path) -> tuple[PreTrainedModel, SourceFiles]:
    """The model of a directory with a config.json, its parameters on the meta device, in the config's dtype.

    Raises:
        ModelError: there is no config.json, it is damaged, or transformers cannot build the model.
    """
    config = read_config(folder)
    if "quantization_config" in config:
        raise ModelError(f"{folder / CONFIG}: of a quantized checkpoint there is nothing to plan")
    known: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    try:
        with empty_weights():
            model = build_empty(config, known, dtype=getattr(known, "dtype", None) or torch.float32)
    except LOADING_ERRORS as error:
        raise ModelError(f"{folder / CONFIG}: transformers cannot build it: {first_line(error)}") from error
    built: PreTrainedModel = model.eval()  # type: ignore[no-untyped-call]
    return built.requires_grad_(False), SourceFiles(config=config)
