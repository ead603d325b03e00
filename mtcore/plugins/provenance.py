"""Where a plugin came from, what it gave, and why it failed."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mtcore.errors import PluginError


@dataclass(frozen=True)
class Origin:
    """Where a plugin came from.

    Attributes:
        plugin: its name: that of its entry point, or of the object that was handed over.
        distribution: the installed package that declares it; "" for one that was handed over in code.
        version: of the distribution; "" without one.
        entry_point: what is imported: "mtopt_hf.hooks"; "" without one.

    Example:
        >>> str(Origin("hf", "mtopt-hf", "0.1.0", "mtopt_hf.hooks")), str(Origin("mine"))
        ("plugin 'hf' (mtopt-hf 0.1.0)", "plugin 'mine'")
    """

    plugin: str
    distribution: str = ""
    version: str = ""
    entry_point: str = ""

    def __str__(self) -> str:
        package = f"{self.distribution} {self.version}".strip()
        return f"plugin {self.plugin!r}" + (f" ({package})" if package else "")


class _FromOrigin:
    """What is said of a plugin's origin, on everything that has one."""

    origin: Origin

    @property
    def distribution(self) -> str:
        return self.origin.distribution

    @property
    def version(self) -> str:
        return self.origin.version

    @property
    def entry_point(self) -> str:
        return self.origin.entry_point


@dataclass(frozen=True)
class PluginInfo(_FromOrigin):
    """A plugin that was loaded; what `mtopt plugins` shows.

    Attributes:
        origin: where it came from.
        file: of its module, or "" where it has none.
        hook_api: the version that it was written for.
        note: why it may stop working one day, or "".
        contributes: hook → number of records (1 for hooks that give none).
    """

    origin: Origin
    file: str
    hook_api: tuple[int, int]
    note: str = ""
    contributes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    @property
    def name(self) -> str:
        return self.origin.plugin

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "entry_point": self.entry_point,
            "file": self.file,
            "hook_api": "{}.{}".format(*self.hook_api),
            "note": self.note,
            "contributes": dict(self.contributes),
        }


@dataclass(frozen=True)
class LoadFailure(_FromOrigin):
    """A plugin that gives nothing, and why.

    Attributes:
        origin: where it came from.
        error: one line: "ModuleNotFoundError: No module named 'apex'".
        traceback: of the exception, as Python prints it; "" where none was raised.
    """

    origin: Origin
    error: str
    traceback: str = ""

    @classmethod
    def of(cls, origin: Origin, error: BaseException) -> LoadFailure:
        """The failure that an exception stands for."""
        line = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        return cls(origin, " ".join(line.split()), "".join(traceback.format_exception(error)))

    @property
    def plugin(self) -> str:
        return self.origin.plugin

    def __str__(self) -> str:
        return f"{self.origin} failed to load: {self.error}"

    def to_json(self) -> dict[str, Any]:
        return {
            "plugin": self.plugin,
            "distribution": self.distribution,
            "version": self.version,
            "entry_point": self.entry_point,
            "error": self.error,
            "traceback": self.traceback,
        }
