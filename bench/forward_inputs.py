"""Keyword arguments of one forward of a model of transformers, by the names in its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

TOKENS, IMAGE = 12, 64


def example_inputs(kind: str, name: str, model: nn.Module) -> dict[str, Any]:
    """Tokens, pixels or sound of a size that the small model takes; seeded."""
    generator = torch.Generator().manual_seed(2)
    names = inspect.signature(model.forward).parameters
    config = model.config
    ids = torch.randint(4, 90, (2, TOKENS), generator=generator)
    inputs: dict[str, Any] = {}
    main = getattr(model, "main_input_name", "input_ids")
    if kind in ("vision", "detection") or main == "pixel_values":
        vision = getattr(config, "vision_config", config)
        size = getattr(vision, "image_size", None) or IMAGE
        size = size if isinstance(size, (tuple, list)) else (size, size)
        inputs["pixel_values"] = torch.randn(2, getattr(config, "num_channels", 3), *size, generator=generator)
    elif main == "input_features" and "input_features" in names:
        bins = getattr(config, "num_mel_bins", None) or getattr(config, "input_feat_per_channel", 80)
        frames = 2 * getattr(config, "max_source_positions", 64)
        inputs["input_features"] = torch.randn(2, bins, frames, generator=generator)
    elif main == "input_values":
        inputs["input_values"] = torch.randn(2, 4000, generator=generator)
    else:
        inputs["input_ids"] = ids
    if "decoder_input_ids" in names and kind == "seq2seq":
        inputs["decoder_input_ids"] = ids[:, :8]
    if "use_cache" in names or ("kwargs" in names and kind == "causal_lm"):
        inputs["use_cache"] = False
    special = SPECIAL.get(f"{kind}/{name}") or SPECIAL.get(name)
    return {**inputs, **(special(model, ids, generator) if special else {})}


Special = Callable[[nn.Module, Tensor, torch.Generator], dict[str, Any]]


def _pixels_as_tokens(model: nn.Module, ids: Tensor, generator: torch.Generator) -> dict[str, Any]:
    return {"pixel_values": None, "input_ids": ids}


def _codebooks(model: nn.Module, ids: Tensor, generator: torch.Generator) -> dict[str, Any]:
    return {"input_ids": ids.repeat_interleave(model.config.num_codebooks, 0)}


def _patches(model: nn.Module, ids: Tensor, generator: torch.Generator) -> dict[str, Any]:
    """Images as rows of patches, with how many lie beside and below each other."""
    vision = model.config.vision_config
    side = int(vision.num_patches**0.5)
    values = vision.num_channels * vision.patch_size**2
    return {
        "pixel_values": torch.randn(2, side * side, values, generator=generator),
        "pixel_attention_mask": torch.ones(2, side * side, dtype=torch.long),
        "spatial_shapes": torch.full((2, 2), side),
    }


def _image_and_text(model: nn.Module, ids: Tensor, generator: torch.Generator) -> dict[str, Any]:
    config = model.config
    picture = torch.full((2, config.mm_tokens_per_image), config.image_token_index)
    size = config.vision_config.image_size
    tokens = torch.cat([ids[:, :2], picture, ids[:, 2:8]], 1)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "pixel_values": torch.randn(2, 3, size, size, generator=generator),
    }


def _frames(bins: Callable[[Any], int]) -> Special:
    """Sound as rows of mel bins."""

    def make(model: nn.Module, ids: Tensor, generator: torch.Generator) -> dict[str, Any]:
        return {"input_features": torch.randn(2, 64, bins(model.config), generator=generator)}

    return make


def _stream(model: nn.Module, ids: Tensor, generator: torch.Generator) -> dict[str, Any]:
    """As many frames of sound as the tokens stand for."""
    config = model.config
    frames = config.audio_length_per_tok * ids.shape[1]
    return {
        "input_ids": ids,
        "input_features": torch.randn(2, config.audio_config.num_mel_bins, frames, generator=generator),
    }


SPECIAL: dict[str, Special] = {
    "imagegpt": _pixels_as_tokens,
    "musicgen": _codebooks,
    "musicgen_melody": _codebooks,
    "siglip2": _patches,
    "shieldgemma2": _image_and_text,
    "granite_speech5_ctc": _frames(lambda config: config.encoder_config.num_mel_bins * 4),
    "parakeet_ctc": _frames(lambda config: config.encoder_config.num_mel_bins),
    "wav2vec2-bert": _frames(lambda config: config.feature_projection_input_dim),
    "voxtral_realtime": _stream,
}
