"""Which installed plugins are looked at: all, only some, or all but some."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from mtcore.errors import PluginError

VARIABLE = "MTCORE_PLUGINS"


@dataclass(frozen=True)
class Selection:
    """A choice among installed plugins by name. Built-ins, and plugins handed over in code, are always there.

    Attributes:
        only: the names that are wanted, or None for all.
        exclude: the names that are not.
        why: who chose, for messages.

    Example:
        >>> [name in Selection.parse("no:hf,onnx") for name in ("hf", "trtllm")]
        [False, True]
        >>> [name in Selection.parse("only:hf") for name in ("hf", "trtllm")]
        [True, False]
    """

    only: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    why: str = ""

    def __contains__(self, plugin: str) -> bool:
        return plugin not in self.exclude and (self.only is None or plugin in self.only)

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Reads the variable `MTCORE_PLUGINS`: "only:a,b" or "no:a,b"; empty means all, "only:" means none.

        Raises:
            PluginError: it says something else.
        """
        if not text.strip():
            return cls()
        key, colon, rest = text.partition(":")
        names = tuple(name.strip() for name in rest.split(",") if name.strip())
        why = f"{VARIABLE}={text}"
        if colon and key.strip() == "only":
            return cls(only=names, why=why)
        if colon and key.strip() == "no":
            return cls(exclude=names, why=why)
        raise PluginError(f"{why}: write only:NAME,NAME or no:NAME,NAME with names of plugins")

    @classmethod
    def choose(cls, only: Collection[str] | None, exclude: Collection[str]) -> Selection:
        """What the caller asked for; where the caller asked for nothing, what the environment says."""
        if only is None and not exclude:
            return cls.parse(os.environ.get(VARIABLE, ""))
        return cls(None if only is None else tuple(only), tuple(exclude), "chosen in code")
