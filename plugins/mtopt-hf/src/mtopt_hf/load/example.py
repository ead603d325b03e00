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
        image = None if model.can_generate() or "pixel_values" not in taken else _image(config)
        pixels = {} if image is None else {"pixel_values": _ramp(image, model)}  # CLIP and the like need both
        return {} if ids is None else {"input_ids": ids, **pixels}
    shape: tuple[int, ...] | None = None
    match model.main_input_name:
        case "pixel_values":
            shape = _image(config)
        case "input_features" if getattr(config, "max_source_positions", None) is not None:
            shape = (1, int(config.num_mel_bins), 2 * int(config.max_source_positions))
        case "input_values" if getattr(config, "num_mel_bins", None) is None:
            shape = (1, _SAMPLES)
    if shape is None:
        return {}
    return {model.main_input_name: _ramp(shape, model)}


def _image(config: Any) -> tuple[int, ...] | None:
    """[1, channels, height, width] of a configuration, or of its part for vision."""
    part = getattr(config, "vision_config", config)
    size = getattr(part, "image_size", None)
    if not isinstance(size, (int, list, tuple)):
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    return (1, int(getattr(part, "num_channels", 3)), *sides)


def _ramp(shape: tuple[int, ...], model: PreTrainedModel) -> Tensor:
    return torch.linspace(-1, 1, torch.Size(shape).numel()).view(shape).to(model.dtype)


def vocabulary_of(model: PreTrainedModel) -> int | None:
    """How many tokens the model knows; None where it has no table of them, or several."""
    try:
        embedding: Any = model.get_input_embeddings()
    except NotImplementedError:  # two towers, and transformers would not choose
        return getattr(model.config.get_text_config(), "vocab_size", None)
    weight = getattr(embedding, "weight", None)
    return None if weight is None else int(weight.shape[0])


def _ids(model: PreTrainedModel) -> Tensor | None:
    vocabulary = vocabulary_of(model)
    if vocabulary is None:
        return None
    step = max(1, vocabulary // 9)
    return (torch.arange(1, 9) * step % vocabulary).unsqueeze(0)
