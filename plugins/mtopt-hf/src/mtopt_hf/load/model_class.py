"""Which class of transformers a configuration is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel


def model_class(config: Mapping[str, Any]) -> Any:
    """The class that config.json names under `architectures`, where transformers has it; else a causal LM's.

    So encoders, encoder-decoders and multimodal models come back as what they were saved as.
    """
    for name in config.get("architectures") or ():
        found = getattr(transformers, str(name), None)
        if isinstance(found, type) and issubclass(found, PreTrainedModel):
            return found
    return AutoModelForCausalLM


def build_empty(config: Mapping[str, Any], settings: Any, **options: Any) -> PreTrainedModel:
    """The model of a configuration with the values that it starts with; call it where these cost nothing.

    Args:
        config: content of config.json.
        settings: the same as transformers' configuration object.
        options: for the constructor; `dtype`, say.
    """
    found = model_class(config)
    build = found.from_config if found is AutoModelForCausalLM else found._from_config
    model: PreTrainedModel = build(settings, **options)
    return model
