"""A directory that appears whole or not at all."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtcore.errors import ExportError


def target_problems(out: Path, *, overwrite: bool) -> list[str]:
    """Why a directory cannot be written at `out`; empty if it can."""
    if out.exists() and not out.is_dir():
        return [f"{out}: is a file; name a directory that does not exist"]
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        return [f"{out}: exists already and is not empty; name another one, or ask for it to be replaced (--force)"]
    return []


@contextmanager
def whole_directory(out: Path, *, overwrite: bool = False, work: Path | None = None) -> Iterator[Path]:
    """Give a directory to write into, and rename it to `out` at the end.

    It is made beside `out`, hidden and empty. If the body raises, or the user interrupts, it is removed and `out`
    is as it was.

    Args:
        work: take this directory instead, on the disk of `out`. It may exist with files that an interrupted run
            left, and it stays if the body raises, for the next run.

    Raises:
        ExportError: `out` exists (and is not to be replaced), cannot be written, or the disk is full.
    """
    problems = target_problems(out, overwrite=overwrite)
    if problems:
        raise ExportError(problems)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if work is None:
            folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".partial", dir=out.parent))
        else:
            folder = work
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError([f"{out}: cannot be written ({error.strerror})"]) from error
    try:
        yield folder
        folder.chmod(0o755)
        _put_in_place(folder, out)
    except OSError as error:
        raise ExportError([_disk_message(error, out, work)]) from error
    finally:
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(work: Path, out: Path) -> None:
    """Rename `work` to `out`; what stood there is moved aside first and removed last."""
    if not out.exists():
        work.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".replaced", dir=work.parent))
    out.rename(aside / "old")
    try:
        work.rename(out)
    except OSError:
        (aside / "old").rename(out)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _disk_message(error: OSError, out: Path, work: Path | None) -> str:
    kept = "" if work is None else f" (but for {work}, from which the next run goes on)"
    if error.errno == errno.ENOSPC:
        return f"{out}: the disk is full; nothing was written{kept}. Free some space, or name another disk"
    return f"{out}: could not be written ({error.strerror or error}); nothing was left behind{kept}"
