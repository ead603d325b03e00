"""The `mtopt` command: a thin face on `mtcore.flow`. Torch is imported inside the commands, never by `--help`.

The names below are for commands that plugins add. They are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtcore.cli.command import Answer, Command
    from mtcore.cli.failures import FAILED
    from mtcore.cli.session import open_registry
    from mtcore.cli.settings import current_settings
    from mtcore.cli.views import megabytes, print_facts, print_table

_HOMES = {
    "Answer": "mtcore.cli.command",
    "Command": "mtcore.cli.command",
    "FAILED": "mtcore.cli.failures",
    "current_settings": "mtcore.cli.settings",
    "megabytes": "mtcore.cli.views",
    "open_registry": "mtcore.cli.session",
    "print_facts": "mtcore.cli.views",
    "print_table": "mtcore.cli.views",
}

__all__ = [
    "FAILED",
    "Answer",
    "Command",
    "current_settings",
    "megabytes",
    "open_registry",
    "print_facts",
    "print_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mtcore.cli' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
