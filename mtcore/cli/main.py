"""The entry point of `mtopt`: its commands, and what happens when a run stops."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import click

from mtcore.cli.commands.algorithms import algorithms
from mtcore.cli.commands.evaluate import evaluate
from mtcore.cli.commands.export import export
from mtcore.cli.commands.formats import formats
from mtcore.cli.commands.new_plugin import new_plugin
from mtcore.cli.commands.plan import plan
from mtcore.cli.commands.plugins import plugins
from mtcore.cli.commands.quantize import quantize
from mtcore.cli.commands.recipes import recipes
from mtcore.cli.commands.requantize import requantize
from mtcore.cli.commands.search import search
from mtcore.cli.commands.trace import trace
from mtcore.cli.failures import TERMINATED, explain
from mtcore.cli.group import Group
from mtcore.cli.settings import Settings


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  mtopt quantize MODEL --recipe nvfp4 --calib corpus.txt -o OUT",
)
@click.version_option(package_name="mtcore", prog_name="mtopt")
def mtopt() -> None:
    """Quantize any PyTorch model for the runtime that serves it."""


for command in (
    *(quantize, requantize, search, export, plan, trace, evaluate),
    *(formats, algorithms, recipes, plugins, new_plugin),
):
    mtopt.add_command(command)


def run(args: Sequence[str] | None = None) -> int:
    """Runs one command line (default: this process's) and returns the exit code."""
    settings = Settings()
    try:
        code: Any = mtopt.main(args=args, prog_name="mtopt", standalone_mode=False, obj=settings)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost place: all becomes one message
        return explain(_interrupt_or(error), settings)
    return code if isinstance(code, int) else 0


def main() -> None:
    """`mtopt` as a program."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run())


def _terminate(signum: int, frame: FrameType | None) -> None:
    """A polite end on SIGTERM: `finally` blocks run and remove what is half-written."""
    sys.exit(TERMINATED)


def _interrupt_or(error: BaseException) -> BaseException:
    """click turns an EOFError into Abort as well; only Ctrl-C is an interruption."""
    cause = error.__cause__
    return cause if isinstance(error, click.Abort) and isinstance(cause, EOFError) else error
