"""Bisection: all items are tried at once, and halves of them where that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def failing(items: Sequence[Item], passes: Callable[[Sequence[Item]], bool]) -> list[Item]:
    """The items that fail alone; one call of `passes` where none does.

    Items that fail together while their halves pass are not returned: small errors add up.

    Example:
        >>> failing([1, 2, 30, 4], lambda some: max(some) < 10)
        [30]
    """
    if not items or passes(items):
        return []
    if len(items) == 1:
        return list(items)
    middle = len(items) // 2
    return failing(items[:middle], passes) + failing(items[middle:], passes)
