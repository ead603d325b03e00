"""The order in which a person lists layers: 2 before 10."""

from __future__ import annotations

import re


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """A sort key for dotted names with numbers in them.

    Example:
        >>> sorted(["layers.10.up", "layers.2.up"], key=natural_order)
        ['layers.2.up', 'layers.10.up']
    """
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
