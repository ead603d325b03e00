"""Pages of tensors that lie in a mapped file: the memory that they take can be given back, for the file has it."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_MAPS = Path("/proc/self/maps")
_PAGEMAP = Path("/proc/self/pagemap")  # 64 bits a page: admin-guide/mm/pagemap.rst of the Linux kernel
_PRESENT_IN_FILE = np.uint64(1 << 63 | 1 << 61)
_DONTNEED = 4  # MADV_DONTNEED of Linux
_SMALL = 8 * mmap.PAGESIZE
_POPULATE_READ = 22  # MADV_POPULATE_READ, of Linux 5.14 and newer


def in_file(tensor: Tensor) -> bool:
    """Whether a tensor's memory is part of a mapped file; False on systems that do not tell (all but Linux)."""
    if tensor.device.type != "cpu" or not tensor.numel() or not _MAPS.exists():
        return False
    start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    # Read anew each time: an address that once was a file's may be plain memory now.
    with _MAPS.open() as lines:
        for line in lines:
            span, _, _, _, inode, *_ = line.split(maxsplit=5)
            low, _, high = span.partition("-")
            if start < int(high, 16):
                return inode != "0" and int(low, 16) <= start and end <= int(high, 16)
    return False


def fetch_pages(tensor: Tensor) -> bool:
    """Read a tensor that lies in a mapped file into memory at once, quicker than page by page as it is used.

    Other tensors are left alone, and all of them by systems that cannot do it. So are small ones, a few pages each:
    to ask about them takes longer than to read them.

    Returns:
        Whether it was fetched, so that there are pages to drop.
    """
    found = tensor.nbytes >= _SMALL and in_file(tensor)
    if found:
        first = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        size = tensor.data_ptr() + tensor.nbytes - first
        _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), _POPULATE_READ)
    return found


def drop_pages(tensor: Tensor) -> None:
    """Give back the memory of a tensor that lies in a mapped file; the next access reads the file again.

    Other tensors are left alone, and so are pages that were written to since: the file does not have their values.

    Raises:
        OSError: the system refuses.
    """
    if in_file(tensor):
        drop_fetched(tensor)


def drop_fetched(tensor: Tensor) -> None:
    """`drop_pages` of a tensor of which `fetch_pages` said that it lies in a file."""
    first, end = tensor.data_ptr() // mmap.PAGESIZE, -(-(tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE)
    for start, stop in _runs(_unwritten(first, end - first)):
        address, size = (first + start) * mmap.PAGESIZE, (stop - start) * mmap.PAGESIZE
        if _libc().madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _DONTNEED) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


@contextmanager
def read_once(tensor: Tensor) -> Iterator[Tensor]:
    """Give a tensor that the body reads whole, and nobody soon after: its pages are fetched, and given back."""
    fetched = fetch_pages(tensor)
    try:
        yield tensor
    finally:
        if fetched:
            drop_fetched(tensor)


def _unwritten(first: int, count: int) -> NDArray[np.bool_]:
    """Which pages are in memory as the file has them; a page that was written to is no longer the file's."""
    with _PAGEMAP.open("rb", buffering=0) as pages:
        pages.seek(8 * first)
        entries = np.frombuffer(pages.read(8 * count), dtype=np.uint64)
    flags: NDArray[np.bool_] = (entries & _PRESENT_IN_FILE) == _PRESENT_IN_FILE
    return flags


def _runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Where the flag is set, as (start, stop)."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
