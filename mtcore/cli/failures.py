"""What the user reads when a run stops, and the exit code."""

from __future__ import annotations

import errno
import traceback

import click

from mtcore.cli.settings import Settings
from mtcore.errors import MtcoreError

FAILED = 1
USAGE = 2
INTERNAL = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as shells count
TERMINATED = 143  # 128 + SIGTERM


def explain(error: BaseException, settings: Settings) -> int:
    """Says on stderr why the run stopped, in one clear message, and returns the exit code."""
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if settings.debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        done = f"{settings.written} is complete" if settings.written else "no checkpoint was written"
        return _say("interrupted", done, INTERRUPTED)
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    if isinstance(error, MtcoreError):
        return _say("error", f"{error}{notes}", FAILED)
    if isinstance(error, OSError):
        return _say("error", f"{_os_error(error)}{notes}", FAILED)
    if isinstance(error, MemoryError):
        return _say("error", "out of memory; use a smaller --batch-size or --length", FAILED)
    text = f"{type(error).__name__}: {error}".splitlines()[0] + notes
    hint = "" if settings.debug else "; --debug shows the traceback"
    return _say("internal error", f"{text}{hint}", INTERNAL)


def _say(kind: str, message: str, code: int) -> int:
    click.echo(f"{click.style(kind, fg='red', bold=True)}: {message}", err=True)
    return code


def _os_error(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"the disk is full{where}; nothing was written"
    return f"{error.strerror or error}{where}"
