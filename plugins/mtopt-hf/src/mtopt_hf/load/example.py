"""Arguments of one small forward, for the trace: tokens, pixels or sound, as the model's class takes them."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel

_SAMPLES = 16_000
"""Values of a raw sound: one second of speech, more than any stack of convolutions shortens to nothing."""


def example_inputs(model: PreTrainedModel) -> dict[str, Any]:
    """Arguments of one small forward, and no cache where there is one.

    Tokens are eight different ids int64 [1, 8], on both sides of an encoder-decoder; of a multimodal model the
    language part alone runs. A model of images gets one [1, channels, height, width], one of sound a spectrogram
    [1, bands, frames] or raw values [1, 16000], in the dtype of the model and of the size that its configuration
    names. Empty where the model takes none of these: then the trace has to be given an input.
    """
    taken = inspect.signature(model.forward).parameters
    first = _first_input(model, taken)
    if not first:
        return {}
    both = {"decoder_input_ids": _ids(model)} if "decoder_input_ids" in taken else {}
    cache = {"use_cache": False} if "use_cache" in taken or isinstance(model, GenerationMixin) else {}
    return {**first, **both, **cache}


def _first_input(model: PreTrainedModel, taken: Any) -> dict[str, Tensor]:
    config: Any = model.config
    if "input_ids" in taken:
        ids = _ids(model)
        return {} if ids is None else {"input_ids": ids}
    shape: tuple[int, ...] | None = None
    match model.main_input_name:
        case "pixel_values" if isinstance(getattr(config, "image_size", None), (int, list, tuple)):
            size = config.image_size
            sides = (size, size) if isinstance(size, int) else tuple(size)
            shape = (1, int(getattr(config, "num_channels", 3)), *sides)
        case "input_features" if getattr(config, "max_source_positions", None) is not None:
            shape = (1, int(config.num_mel_bins), 2 * int(config.max_source_positions))
        case "input_values" if getattr(config, "num_mel_bins", None) is None:
            shape = (1, _SAMPLES)
    if shape is None:
        return {}
    values = torch.linspace(-1, 1, torch.Size(shape).numel()).view(shape)
    return {model.main_input_name: values.to(model.dtype)}


def _ids(model: PreTrainedModel) -> Tensor | None:
    embedding: Any = model.get_input_embeddings()
    if getattr(embedding, "weight", None) is None:
        return None
    vocabulary = int(embedding.weight.shape[0])
    step = max(1, vocabulary // 9)
    return (torch.arange(1, 9) * step % vocabulary).unsqueeze(0)
