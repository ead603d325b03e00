"""The files of a checkpoint directory, found complete and whole by their headers before any weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtcore.errors import ModelError
from mtcore.lint import file_rules, open_checkpoint, read_object
from mtopt_hf.load.sizes import size_problems

_SHOWN = 5
_HARMLESS = frozenset(rule.name for rule in file_rules() if "error" not in rule.severity.values())


def check_weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint, after a look at every header and the index.

    Raises:
        ModelError: what `mtopt lint` calls an error of the files; all of them in one message.
    """
    checkpoint = open_checkpoint(folder)
    faults = [fault for fault in checkpoint.faults if fault.kind not in _HARMLESS]
    problems = [f"{folder / fault.where}: {fault.why}; {fault.todo}" for fault in faults]
    problems += size_problems(checkpoint)
    if problems:
        more = len(problems) - _SHOWN
        hint = [f"and {more} more; `mtopt lint {folder}` shows them"] if more > 0 else []
        raise ModelError("; ".join(problems[:_SHOWN] + hint))
    return tuple(folder / name for name in checkpoint.files)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelError: it cannot be read or is no object.
    """
    try:
        return read_object(file)
    except ValueError as error:
        raise ModelError(f"{file}: {error}") from error
