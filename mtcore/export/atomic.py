"""A directory that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mtcore.errors import ExportError, first_of
from mtcore.export.stored import ARTIFACT_FILE
from mtcore.files import parent_problems, taken_inputs

_WRITTEN = ("config.json", ARTIFACT_FILE, "mtcore_state.json", "*.safetensors", "*.gguf", "*.onnx")
"""Names of which a directory has one if it is a checkpoint, or was written by an exporter or `save_state`."""


def target_problems(out: Path, *, overwrite: bool, inputs: Iterable[tuple[str, Path]] = ()) -> list[str]:
    """Why a directory cannot be written at `out`; empty if it can.

    Args:
        inputs: what is read, which it may neither be nor hold; see `taken_inputs`.
    """
    taken = taken_inputs(out, inputs)
    if taken:
        return taken
    place = out.resolve()
    if place.exists() and not place.is_dir():
        return [f"{out}: is a file; name a directory that does not exist"]
    if place.is_dir():
        return _standing_problems(out, place, overwrite)
    return parent_problems(out)


def _standing_problems(out: Path, place: Path, overwrite: bool) -> list[str]:
    """Why a directory that exists cannot be replaced."""
    if place in (here := Path.cwd(), *here.parents):
        return [f"{out}: is or holds the directory that you work in, which cannot be replaced; name another one"]
    if os.path.ismount(place):
        return [f"{out}: is the place of a mount, which cannot be replaced; name a directory in it"]
    if not os.access(place, os.R_OK | os.X_OK):
        return [f"{out}: exists already and cannot be read; name another one"]
    names = sorted(entry.name for entry in place.iterdir())
    if names and not overwrite:
        return [f"{out}: exists already and is not empty; name another one, or ask for it to be replaced (--force)"]
    if names and not _replaceable(place):
        return [
            f"{out}: holds {first_of(names)}, and does not look like a checkpoint, which is all that --force "
            "replaces; name another one, or delete it by hand"
        ]
    return parent_problems(out)


def _replaceable(place: Path) -> bool:
    """Whether a directory looks like a checkpoint or something that mtopt wrote, and like no repository."""
    if (place / ".git").exists():
        return False
    return any(found.is_file() for pattern in _WRITTEN for found in place.glob(pattern))


@contextmanager
def whole_directory(
    out: Path, *, overwrite: bool = False, work: Path | None = None, inputs: Iterable[tuple[str, Path]] = ()
) -> Iterator[Path]:
    """Give a directory to write into, and rename it to `out` at the end.

    It is made beside `out`, hidden and empty. If the body raises, or the user interrupts, it is removed and `out`
    is as it was.

    Args:
        work: take this directory instead, on the disk of `out`. It may exist with files that an interrupted run
            left, and it stays if the body raises, for the next run.
        inputs: see `target_problems`.

    Raises:
        ExportError: `out` exists (and is not to be replaced), cannot be written, or the disk is full.
    """
    problems = target_problems(out, overwrite=overwrite, inputs=inputs)
    if problems:
        raise ExportError(problems)
    place = out.resolve()  # `..` in a path leads nowhere once the directory before it is moved
    stood = place.exists()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if work is None:
            folder = Path(tempfile.mkdtemp(prefix=f".{place.name}-", suffix=".partial", dir=place.parent))
        else:
            folder = work
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError([f"{out}: cannot be written ({error.strerror})"]) from error
    try:
        yield folder
        folder.chmod(0o755)
        _put_in_place(folder, place)
    except OSError as error:
        raise ExportError([_disk_message(error, out, work, stood)]) from error
    finally:
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(work: Path, out: Path) -> None:
    """Rename `work` to `out`; what stood there is moved aside first and removed last.

    Raises:
        OSError: `out` is as it was. ExportError: it is not; what stood there is whole, and the message says where.
    """
    if not out.exists():
        work.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".replaced", dir=out.parent))
    old = aside / "old"
    try:
        out.rename(old)
        work.rename(out)
    except BaseException as error:
        if work.exists() or not out.exists():  # else the interruption came after the swap
            if old.exists():
                _put_back(old, out, error)
            aside.rmdir()  # never what is in it: that would be the only copy
        else:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _put_back(old: Path, out: Path, why: BaseException) -> None:
    try:
        old.rename(out)
    except OSError as error:
        raise ExportError(
            [
                f"{out}: could not be replaced ({_reason(why)}), and what stood there could not be moved back "
                f"({_reason(error)}); it is whole in {old}: move it back by hand"
            ]
        ) from why


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _disk_message(error: OSError, out: Path, work: Path | None, stood: bool) -> str:
    kept = "" if work is None else f" (but for {work}, from which the next run goes on)"
    if error.errno == errno.ENOSPC:
        return f"{out}: the disk is full; nothing was written{kept}. Free some space, or name another disk"
    left = "what stood there is as it was" if stood else "nothing was left behind"
    return f"{out}: could not be written ({_reason(error)}); {left}{kept}"
