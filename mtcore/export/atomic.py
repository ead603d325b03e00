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
def whole_directory(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty directory to write into, and rename it to `out` at the end.

    It is made beside `out`, hidden. If the body raises, or the user interrupts, it is removed and `out` is as it
    was.

    Raises:
        ExportError: `out` exists (and is not to be replaced), cannot be written, or the disk is full.
    """
    problems = target_problems(out, overwrite=overwrite)
    if problems:
        raise ExportError(problems)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise ExportError([f"{out}: cannot be written ({error.strerror})"]) from error
    try:
        yield work
        work.chmod(0o755)
        _put_in_place(work, out)
    except OSError as error:
        raise ExportError([_disk_message(error, out)]) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put_in_place(work: Path, out: Path) -> None:
    """Rename `work` to `out`; what stood there is moved aside first and removed last."""
    if not out.exists():
        work.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".replaced", dir=out.parent))
    out.rename(aside / "old")
    try:
        work.rename(out)
    except OSError:
        (aside / "old").rename(out)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _disk_message(error: OSError, out: Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"{out}: the disk is full; nothing was written. Free some space or name a directory on another disk"
    return f"{out}: could not be written ({error.strerror or error}); nothing was left behind"
