"""Pages of tensors that lie in a mapped file: the memory that they take can be given back, for the file has it."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from pathlib import Path

from torch import Tensor

_MAPS = Path("/proc/self/maps")
_DONTNEED = 4  # MADV_DONTNEED of Linux


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


def drop_pages(tensor: Tensor) -> None:
    """Give back the memory of a tensor that lies in a mapped file; the next access reads the file again.

    Other tensors are left alone. Values that were written into such a tensor are lost: edit copies.

    Raises:
        OSError: the system refuses.
    """
    if not in_file(tensor):
        return
    first = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    size = tensor.data_ptr() + tensor.nbytes - first
    if _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), _DONTNEED) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
