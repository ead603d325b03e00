"""The command class: common options, an example in the help, and an answer drawn as tables or as JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mtcore.cli.logs import logs_on_stderr
from mtcore.cli.settings import Settings, common_options, current_settings

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe, where no terminal says how wide it is."""


@dataclass(frozen=True)
class Answer:
    """What a command found out: `data` for programs (JSON-able), `draw` for people, and the exit code."""

    data: Any
    draw: Callable[[Console], None]
    exit_code: int = 0


class Command(click.Command):
    """A command that returns an `Answer`. `example` is shown under its help."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        kwargs["epilog"] = f"\b\nExample:\n  {example}"
        super().__init__(*args, **kwargs)
        self.params += common_options()

    def invoke(self, ctx: click.Context) -> int:
        """Runs the command with stdout kept clean, shows its answer, returns the exit code."""
        settings = current_settings(ctx)
        settings.stdout = sys.stdout
        # A library that prints must not spoil the answer.
        with contextlib.redirect_stdout(sys.stderr), logs_on_stderr(verbose=settings.verbose):
            answer: Answer = super().invoke(ctx)
        _show(answer, settings)
        return answer.exit_code


def _show(answer: Answer, settings: Settings) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # of the processes that torchrun starts, the first one answers
    if settings.json:
        click.echo(json.dumps(json_safe(answer.data), indent=2, ensure_ascii=False), file=settings.stdout)
    else:
        from rich.console import Console

        wide = None if settings.stdout.isatty() else PIPE_WIDTH
        answer.draw(Console(file=settings.stdout, width=wide, highlight=False))
    settings.stdout.flush()


def json_safe(value: Any) -> Any:
    """The value with non-finite floats as strings, which JSON has no numbers for.

    Example:
        >>> json_safe({"perplexity": float("inf"), "tokens": 8})
        {'perplexity': 'inf', 'tokens': 8}
    """
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
