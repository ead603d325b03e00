"""How many tokens a model reads at once: what its configuration says, and what a table of positions allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

_KEY = "max_position_embeddings"


def stated_positions(model: nn.Module) -> int | None:
    """The number of positions in the model's configuration, or None where it says none."""
    config: Any = _text_config(model)
    stated = getattr(config, _KEY, None)
    return stated if isinstance(stated, int) and stated > 0 else None


def key_of_positions(model: nn.Module) -> str:
    """What config.json calls that number; "n_positions", say."""
    config: Any = _text_config(model)
    return str(getattr(config, "attribute_map", {}).get(_KEY, _KEY))


def learned_positions(model: nn.Module) -> int | None:
    """How many positions have a row in a table, or None where positions are computed and any number will do.

    The table stands beside that of the tokens and has a row for each position that the configuration states; some
    begin after a few rows that are not used (`offset`). Classes that do otherwise with a position (clamp it, say)
    are not taken for tables.
    """
    stated = stated_positions(model)
    if stated is None:
        return None
    for table in _beside_tokens(model):
        offset = getattr(table, "offset", None)
        if type(table) is not nn.Embedding and not isinstance(offset, int):
            continue
        if table.num_embeddings - (offset or 0) == stated:
            return stated
    return None


def _text_config(model: nn.Module) -> object:
    config: Any = getattr(model, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else None


def _beside_tokens(model: nn.Module) -> Iterator[nn.Embedding]:
    """The other tables of modules that hold the table of tokens."""
    tokens: Any = getattr(model, "get_input_embeddings", lambda: None)()
    if not isinstance(tokens, nn.Module):
        return
    for module in model.modules():
        children = list(module.children())
        if any(child is tokens for child in children):
            yield from (c for c in children if isinstance(c, nn.Embedding) and c is not tokens)
