"""What a user reads when a run stops, and the exit code."""

import errno
from pathlib import Path

import click
import pytest

from mtcore.cli.failures import explain
from mtcore.cli.settings import Settings
from mtcore.errors import ModelError, UnknownNameError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ModelError("x: no model"), 1, "error: x: no model"),
        (
            UnknownNameError("recipe", "nvpf4", ["nvfp4"]),
            1,
            "error: no recipe named 'nvpf4'. Did you mean 'nvfp4'?",
        ),
        (KeyboardInterrupt(), 130, "interrupted: no checkpoint was written"),
        (click.Abort(), 130, "interrupted: no checkpoint was written"),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 1, "error: the disk is full: out/x; nothing"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 1, "error: Permission denied: out"),
        (MemoryError(), 1, "error: out of memory"),
        (ZeroDivisionError("oops"), 70, "internal error: ZeroDivisionError: oops; --debug shows the traceback"),
    ],
)
def test_every_failure_is_one_line_and_a_code_of_its_own(error, code, line, capsys):
    assert explain(error, Settings()) == code
    text = capsys.readouterr().err
    assert text.startswith(line)
    assert text.count("\n") == 1


def test_an_interruption_after_the_end_does_not_deny_what_was_written(capsys):
    explain(KeyboardInterrupt(), Settings(written=Path("out")))
    assert capsys.readouterr().err == "interrupted: out is complete\n"


def test_debug_shows_the_traceback_before_the_line(capsys):
    try:
        raise ValueError("deep inside")
    except ValueError as error:
        explain(error, Settings(debug=True))
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.endswith("internal error: ValueError: deep inside\n")


def test_usage_errors_keep_the_code_of_click(capsys):
    assert explain(click.UsageError("no such option"), Settings()) == 2
