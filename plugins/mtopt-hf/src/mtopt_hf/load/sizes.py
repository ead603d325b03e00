"""Sizes in config.json that cannot be: found before a model of that size is built and memory is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mtcore.lint import CONFIG, Checkpoint

_LARGEST = 2**28
"""No size of a model is as large: vocabularies have 2**20 words, contexts 2**24 positions."""

_SIZE = re.compile(r"size|dim|heads|layers|experts|rank|positions?|width|depth|channels|inner|^n_|^num_|^d_")
_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d{1,6})\.")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def size_problems(checkpoint: Checkpoint) -> Iterator[str]:
    """One line for every size in config.json that no model has, or that its files are far from."""
    where = checkpoint.folder / CONFIG
    for key, value in _numbers(checkpoint.config):
        name = key.rpartition(".")[2]
        if _SIZE.search(name) and abs(value) >= _LARGEST:
            yield f"{where}: {key} is {value}, which no model has; copy the model's own config.json"
    stored = {int(found[1]) for name in checkpoint.tensors if (found := _LAYER.search(name))}
    for key, value in _numbers(checkpoint.config):
        if stored and key.rpartition(".")[2] in _LAYERS and 64 + 8 * (max(stored) + 1) < value < _LARGEST:
            said = f"{key} is {value}, but the files have {max(stored) + 1} layers"
            yield f"{where}: {said}; copy the model's own config.json"


def _numbers(config: Mapping[str, Any], prefix: str = "", depth: int = 3) -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if type(value) is int:
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping) and depth:
            yield from _numbers(value, f"{prefix}{key}.", depth - 1)
