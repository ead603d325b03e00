"""Tensors of a checkpoint that fit no part of the model: they are told, whole blocks by their number."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from torch import nn
from transformers import PreTrainedModel

_NO_WEIGHT = re.compile(r"(^|\.)(rotary_emb\.inv_freq|masked_bias)$")
"""Buffers that old checkpoints hold and no model of today reads."""


def tell_left_over(
    model: PreTrainedModel, names: Collection[str], where: str, settings: str, warn: Callable[[str], object]
) -> None:
    """Says what was not loaded. Silent are buffers that the model works out itself; transformers has already taken
    out what the model's class declares as needless.

    Args:
        names: tensors of the files that transformers found no place for.
        where: the checkpoint.
        settings: what says how many blocks there are; config.json, say.
        warn: is given one line. Blocks beyond those that the configuration counts may be left out by intention:
            to predict further tokens, or to try a model with fewer.
    """
    buffers = [name for name, _ in model.named_buffers()]
    weights = [name for name in names if not _NO_WEIGHT.search(name)]
    dropped = sorted(name for name in weights if not any(_same(name, buffer) for buffer in buffers))
    if not dropped:
        return
    config: Any = model.config.get_text_config()
    count = getattr(config, "num_hidden_layers", None)
    beyond = _blocks_beyond(model, dropped, count)
    tensors = "1 tensor fits" if len(dropped) == 1 else f"{len(dropped)} tensors fit"
    more = f" ({settings} says num_hidden_layers: {count}, and the files hold {some(beyond)})" if beyond else ""
    warn(f"{where}: {tensors} no part of the model and will not be in what is made of it: {some(dropped)}{more}")


def some(names: list[str]) -> str:
    """The first three names, and whether there are more."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _blocks_beyond(model: PreTrainedModel, names: list[str], count: object) -> list[str]:
    """Names of blocks with an index after the last, in the lists of `count` blocks that the model has."""
    prefix = f"{model.base_model_prefix}."
    stacks: set[str] = set()
    for name, part in model.named_modules():
        if isinstance(part, nn.ModuleList) and len(part) == count:
            stacks |= {name, prefix + name, name.removeprefix(prefix)}  # files may lack the prefix, or have it
    found: set[tuple[str, int]] = set()
    for name in names:
        for number in re.finditer(r"(?<=\.)\d+(?=\.)", name):
            stack, index = name[: number.start() - 1], int(number.group())
            if stack in stacks and index >= int(str(count)):
                found.add((stack, index))
    return [f"{stack}.{index}" for stack, index in sorted(found)]


def _same(name: str, buffer: str) -> bool:
    """Whether two names are one but for what stands before them."""
    return f".{name}".endswith(f".{buffer}") or f".{buffer}".endswith(f".{name}")
