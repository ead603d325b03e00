"""Questions about an architecture that only transformers can answer; no, where it cannot build it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def holds(question: Callable[[Mapping[str, Any], str], bool], config: Mapping[str, Any], module: str) -> bool:
    """What a question of `mtopt_hf.checkpoint.together` says of a module.

    Args:
        question: which is imported where it is asked, for it imports torch and transformers.
        config: content of config.json.
        module: its name, in memory.
    """
    try:
        return question(config, module)
    except Exception:  # noqa: BLE001  a configuration that transformers cannot build: from_pretrained says why itself
        return False
