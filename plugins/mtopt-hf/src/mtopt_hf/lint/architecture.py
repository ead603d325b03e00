"""Questions about an architecture that only transformers can answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def asked(question: Callable[..., T], *arguments: object, otherwise: T) -> T:
    """What a question of `mtopt_hf.checkpoint` says; `otherwise` where transformers cannot build the architecture.

    Args:
        question: which is imported where it is asked, for it imports torch and transformers.
        arguments: content of config.json, and what else the question takes.
    """
    try:
        return question(*arguments)
    except Exception:  # noqa: BLE001  a configuration that transformers cannot build: from_pretrained says why itself
        return otherwise
