"""A file that is whole or absent, also after a crash: written beside its place, flushed to the disk, renamed."""

from __future__ import annotations

import ctypes
import functools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_PARTIAL = ".partial"
_WRITE = 2  # SYNC_FILE_RANGE_WRITE: sync_file_range(2) of Linux


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` when the body is done. Until then, and if it raises, `path` stays.

    What a killed process leaves behind is `<path>.partial`; the next writer of the same path takes it over.

    Raises:
        OSError: the disk is full, say.
    """
    partial = path.with_name(path.name + _PARTIAL)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with suppress(OSError):  # where a directory is missing, or is a file, nothing was made
            partial.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename = str(path)
        raise
    partial.replace(path)
    sync_directory(path.parent)


def begin_flush(file: IO[bytes], first: int, end: int) -> None:
    """Let the disk begin with the bytes [first, end) of a file, and go on: the flush at its end then waits less.

    Systems other than Linux begin when they see fit. What the disk refuses, the flush at the end tells.
    """
    begin = _sync_file_range()
    if begin is not None:
        begin(file.fileno(), first, end - first, _WRITE)


@functools.cache
def _sync_file_range() -> Any:
    found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found


def write_json(path: Path, value: Any) -> None:
    """JSON in a whole file."""
    with whole_file(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


def sync_directory(folder: Path) -> None:
    """Make renames in a directory outlast a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
