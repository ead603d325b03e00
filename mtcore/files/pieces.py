"""A file written piece by piece, each from one of two small buffers: past the system's cache, where it can be."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mtcore.files.whole import begin_flush

PIECE_BYTES = 2 << 20
"""One buffer. From 2 to 16 MiB the disk is equally quick; a small one stays in the caches."""

_BLOCK = 4096
"""What offsets, sizes and addresses are multiples of, past the cache; open(2) of Linux: the disk's block."""
_DIRECT: int = getattr(os, "O_DIRECT", 0)  # which other systems do not have

Bytes = NDArray[np.uint8]


class PieceWriter:
    """Writes bytes one after the other; see `in_pieces`."""

    def __init__(self, file: IO[bytes], thread: ThreadPoolExecutor, *, cached: bool) -> None:
        self._file, self._thread = file, thread
        self._direct = not cached and _go_past_cache(file, True)
        # of pages, for a disk reads from them: not of a heap, which begins anywhere
        self._free, self._next = (np.frombuffer(mmap.mmap(-1, PIECE_BYTES), np.uint8) for _ in range(2))
        self._start = self._filled = 0  # of the piece in the file, and how much of it there is
        self._going: Future[None] | None = None

    def write(self, data: Bytes) -> None:
        """Take bytes, which may change afterwards.

        Raises:
            OSError: an earlier piece could not be written: the disk is full, say.
        """
        done = 0
        while done < len(data):
            count = min(len(data) - done, PIECE_BYTES - self._filled)
            self._free[self._filled : self._filled + count] = data[done : done + count]
            done, self._filled = done + count, self._filled + count
            if self._filled == PIECE_BYTES:
                self._send()

    def skip(self, size: int) -> None:
        """Leave so many bytes zero: a hole, but for what it has of blocks that it shares. Errors as above."""
        first = min(size, -(self._start + self._filled) % _BLOCK)
        whole, last = divmod(size - first, _BLOCK)
        self.write(np.zeros(first, np.uint8))
        if whole:
            self._send()
            self._start += whole * _BLOCK
        self.write(np.zeros(last, np.uint8))

    def finish(self) -> None:
        """Write what is left, which need not fill a block. Errors as above."""
        self._wait()
        if self._direct:
            self._direct = _go_past_cache(self._file, False)
        self._put(self._free[: self._filled], self._start)

    def _send(self) -> None:
        self._wait()
        self._going = self._thread.submit(self._put, self._free[: self._filled], self._start)
        self._start, self._filled = self._start + self._filled, 0
        self._free, self._next = self._next, self._free

    def _wait(self) -> None:
        if self._going is not None:
            self._going.result()

    def _put(self, piece: Bytes, start: int) -> None:
        done = 0
        while done < len(piece):
            try:
                done += os.pwrite(self._file.fileno(), piece[done:].data, start + done)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                self._direct = _go_past_cache(self._file, False)  # a disk that says no only now
        if not self._direct:
            begin_flush(self._file, start, start + len(piece))


@contextmanager
def in_pieces(file: IO[bytes], *, cached: bool = True) -> Iterator[PieceWriter]:
    """Give a writer for a file that is empty; the last bytes are there when the body is done.

    One piece is filled while a thread writes the one before.

    Args:
        cached: leave the bytes in the system's cache, for those who read them soon. Else they go past it, where
            system and disk can do that: no memory has to be found for them, which can take longer than the disk.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="in-pieces") as thread:
        writer = PieceWriter(file, thread, cached=cached)
        yield writer
        writer.finish()


def _go_past_cache(file: Any, wanted: bool) -> bool:
    """Whether a file's bytes go past the cache from now on."""
    flags = fcntl.fcntl(file, fcntl.F_GETFL) & ~_DIRECT
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | _DIRECT if wanted else flags)
    except OSError:
        return False  # a file system that has its files in memory alone
    return wanted and bool(_DIRECT)
