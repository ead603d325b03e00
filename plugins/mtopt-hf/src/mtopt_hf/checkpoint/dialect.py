"""Dialect: what one spelling of a Hugging Face checkpoint says about a layer, the cache and the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mtcore.formats import TensorFormat
from mtcore.numerics import QParams
from mtopt_hf.checkpoint.attention import CacheForm
from mtopt_hf.checkpoint.layer import Layer, LayerValues


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds, for its configuration.

    Attributes:
        layers: quantized matrices.
        ignore: names of modules with a matrix that stays, in the file and in memory.
        cache: the format of keys and values, or None.
        queries: classes of the modules whose queries are quantized beside them; empty where none are.
        dtype: of the weights before they were quantized.
        config: the model's own configuration.
    """

    layers: tuple[Layer, ...]
    ignore: tuple[str, ...]
    cache: TensorFormat | None
    dtype: torch.dtype
    config: Mapping[str, Any]
    queries: tuple[str, ...] = ()

    @property
    def dtype_key(self) -> str:
        """The key under which config.json names a dtype."""
        return "torch_dtype" if "torch_dtype" in self.config else "dtype"

    @property
    def missing_dtype(self) -> Mapping[str, str]:
        """The entry of config.json that names the dtype to compute in, where the source has none: clients would
        guess it from the first tensor of the file."""
        return {} if self.dtype_key in self.config else {self.dtype_key: str(self.dtype).removeprefix("torch.")}


@dataclass(frozen=True)
class Description:
    """What the JSON files say: entries of config.json, and files of their own by name."""

    config: Mapping[str, Any]
    files: Mapping[str, Any] = field(default_factory=dict)


def _no_cache(*_: object) -> Any:
    raise AssertionError("a cache in a dialect whose check refuses it")


@dataclass(frozen=True)
class Dialect:
    """One spelling.

    Attributes:
        name: as users know it.
        tensors: the tensors of a layer by local name, made when they are asked for. Called with values on the meta
            device too, to learn names, shapes and dtypes.
        describe: the JSON of a checkpoint with at least one quantized layer or cache.
        stacked: whether it holds experts as the hub stacks them; the name of a tensor is then that of the stack on
            the hub, and what `tensors` puts in place of its last part.
        caches: the forms in which it holds keys and values.
        cache_scale: from an attention module, a slot ("k", "v" or "q") and its calibrated scales to the name and
            the tensor that are stored; not needed where there are no caches.
    """

    name: str
    tensors: Callable[[Layer, LayerValues], Mapping[str, Callable[[], Tensor]]]
    describe: Callable[[Contents], Description]
    stacked: bool = False
    caches: tuple[CacheForm, ...] = ()
    cache_scale: Callable[[str, str, QParams], tuple[str, Tensor]] = _no_cache
