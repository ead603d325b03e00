"""Host memory: how much this process holds, how much it ever held, and sizes as people write them."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

from mtcore.errors import MtcoreError

_STATUS = Path("/proc/self/status")
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(text: str) -> int:
    """A size in bytes.

    Raises:
        MtcoreError: it is none.

    Example:
        >>> parse_bytes("8GiB"), parse_bytes("1.5 gb"), parse_bytes("4096")
        (8589934592, 1500000000, 4096)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?\s*", text, re.IGNORECASE)
    if found is None:
        raise MtcoreError(f"{text!r} is no size; write 8GiB, 500MB or a number of bytes")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _UNITS[unit.upper()])


def show_bytes(size: float) -> str:
    """
    Example:
        >>> show_bytes(8589934592), show_bytes(1_500_000)
        ('8.00 GiB', '1.4 MiB')
    """
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def resident_bytes() -> int | None:
    """What this process holds in memory now; None where the system does not tell (all but Linux)."""
    return _status("VmRSS")


def peak_bytes() -> int | None:
    """The most that this process ever held in memory; None where the system does not tell."""
    return _status("VmHWM")


def trim_memory() -> None:
    """Give freed memory back to the system, where the C library can (glibc)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _status(name: str) -> int | None:
    if not _STATUS.exists():
        return None
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
