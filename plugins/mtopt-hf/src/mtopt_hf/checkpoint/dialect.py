"""Dialect: what one spelling of a Hugging Face checkpoint says about a layer, the cache and the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mtcore.formats import TensorFormat
from mtcore.numerics import QParams
from mtopt_hf.checkpoint.layer import Layer, LayerValues


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds, for its configuration.

    Attributes:
        layers: quantized matrices.
        ignore: names of modules with a matrix that stays, in the file and in memory.
        cache: the format of keys and values, or None.
        dtype: of the weights before they were quantized.
        config: the model's own configuration.
    """

    layers: tuple[Layer, ...]
    ignore: tuple[str, ...]
    cache: TensorFormat | None
    dtype: torch.dtype
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Description:
    """What the JSON files say: entries of config.json, and files of their own by name."""

    config: Mapping[str, Any]
    files: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """One spelling.

    Attributes:
        name: as users know it.
        tensors: the tensors of a layer by local name, made when they are asked for. Called with values on the meta
            device too, to learn names, shapes and dtypes.
        describe: the JSON of a checkpoint with at least one quantized layer or cache.
        cache_name: from an attention module and a slot, "k" or "v", to the name of the scale's tensor.
        cache_scale: from calibrated scales of a cache to the tensor that is stored.
    """

    name: str
    tensors: Callable[[Layer, LayerValues], Mapping[str, Callable[[], Tensor]]]
    describe: Callable[[Contents], Description]
    cache_name: Callable[[str, str], str]
    cache_scale: Callable[[QParams], Tensor]
