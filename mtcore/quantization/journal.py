"""The journal of a conversion: what was replaced where, so that it can be undone."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True)
class Replacement:
    """`parent.attribute` held `original` and now holds `replacement`."""

    parent: nn.Module
    attribute: str
    original: nn.Module
    replacement: nn.Module


@dataclass
class Journal:
    """Replacements in the order in which they were made."""

    entries: list[Replacement] = field(default_factory=list)

    def replace(self, parent: nn.Module, attribute: str, replacement: nn.Module) -> None:
        """Put `replacement` where `parent.attribute` is, and write it down."""
        original = parent._modules[attribute]
        assert original is not None, f"nothing to replace at {attribute!r}"
        parent._modules[attribute] = replacement
        self.entries.append(Replacement(parent, attribute, original, replacement))

    def undo(self) -> None:
        """Put every original back, last first; the very same objects stand where they stood. Idempotent."""
        while self.entries:
            entry = self.entries.pop()
            entry.parent._modules[entry.attribute] = entry.original
