"""What every command knows: the options that all of them have, and where the answer goes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import click


@dataclass
class Settings:
    """Options that stand before or after the command's name; collected while the line is parsed.

    Attributes:
        json: the answer is JSON on stdout, and nothing else is printed there.
        verbose: log lines are shown.
        debug: tracebacks are shown.
        no_plugins: only what mtcore brings itself is used.
        written: what this run has put in its final place; named if the run is interrupted afterwards.
        stdout: where the answer goes, whatever happens to `sys.stdout` meanwhile.
        plugin_commands: commands that plugins added, or None while nobody has asked for them.
    """

    json: bool = False
    verbose: bool = False
    debug: bool = False
    no_plugins: bool = False
    written: Path | None = None
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    plugin_commands: dict[str, click.Command] | None = None


def current_settings(ctx: click.Context | None = None) -> Settings:
    """The settings of this call of `mtopt`."""
    root = (ctx or click.get_current_context()).find_root()
    return root.ensure_object(Settings)


def common_options() -> list[click.Parameter]:
    """Fresh copies of the options that every command and `mtopt` itself take."""
    return [
        _switch("json", "--json", help="Print the result as JSON, and nothing else, on stdout."),
        _switch("verbose", "-v", "--verbose", help="Show log lines."),
        _switch("debug", "--debug", help="Show the traceback of an error."),
        _switch("no_plugins", "--no-plugins", help="Use only what mtcore brings itself."),
    ]


def _switch(name: str, *flags: str, help: str) -> click.Option:
    """An option that sets one field of the settings; given once, anywhere on the line, it stays on."""

    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            setattr(current_settings(ctx), name, True)

    return click.Option(
        [*flags, name], is_flag=True, is_eager=True, expose_value=False, callback=remember, help=help
    )
