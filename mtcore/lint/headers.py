"""The header of one safetensors file: read within bounds, and every way in which it can be wrong by name."""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library itself."""

BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U64": 64,
    "U32": 32,
    "U16": 16,
    "U8": 8,
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "C64": 64,
}
"""Bits of one element, by the name of its dtype in a safetensors file."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: `nbytes` from `offset` on in `file`, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    nbytes: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Fault:
    """Something wrong with the files themselves. `kind` is the name of the lint rule that reports it."""

    kind: str
    where: str
    why: str
    todo: str


class _DuplicateKeyError(ValueError):
    pass


def read_header(path: Path, name: str) -> tuple[list[TensorInfo], list[Fault]]:
    """The tensors of a safetensors file and what is wrong with its header; never more than the header is read.

    A file is: length of the header (u64, little endian), header (JSON: name → dtype, shape, data_offsets), data
    without holes. Tensors whose own entry is wrong are left out.

    Args:
        path: of the file.
        name: what to call it in messages and in `TensorInfo.file`.
    """

    def wrong(kind: str, why: str, todo: str = "fetch or write the file again", at: str = "") -> Fault:
        return Fault(kind, f"{name}: {at}" if at else name, why, todo)

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not block the open
    except OSError as error:
        return [], [wrong("file-missing", f"it cannot be opened ({error.strerror})")]
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        return [], [wrong("file-missing", "it is no regular file")]
    with os.fdopen(descriptor, "rb") as stream:
        size = facts.st_size
        start = stream.read(8)
        if len(start) < 8:
            return [], [wrong("file-truncated", f"cut short: {size} bytes are too few for a safetensors file")]
        (length,) = struct.unpack("<Q", start)
        if length > LARGEST_HEADER:
            why = f"its header claims {length} bytes, the limit is {LARGEST_HEADER}; this is no safetensors file"
            return [], [wrong("header-too-large", why)]
        if 8 + length > size:
            return [], [
                wrong("file-truncated", f"cut short inside its header ({size} of at least {8 + length} bytes)")
            ]
        text = stream.read(length)
    try:
        entries = json.loads(text, object_pairs_hook=_unique)
    except _DuplicateKeyError as error:
        return [], [wrong("tensor-duplicate", f"its header has {error} twice; clients take either", at=str(error))]
    except (ValueError, RecursionError) as error:
        return [], [wrong("header-damaged", f"its header is no JSON ({type(error).__name__})")]
    if not isinstance(entries, dict):
        return [], [wrong("header-damaged", "its header is no JSON object")]
    entries.pop("__metadata__", None)
    tensors: list[TensorInfo] = []
    faults: list[Fault] = []
    end = 0
    for key, entry in entries.items():
        try:
            dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            sound = all(type(number) is int and 0 <= number < 2**62 for number in (first, last, *shape))
            if not sound or first > last or not isinstance(dtype, str):
                raise ValueError("numbers that are no sizes")
        except (KeyError, TypeError, ValueError) as error:
            faults.append(
                wrong("header-damaged", f"its entry is wrong ({type(error).__name__}: {error})", at=repr(key))
            )
            continue
        end = max(end, last)
        if dtype not in BITS:
            faults.append(wrong("dtype-unknown", f"dtype {dtype!r} is none of safetensors", at=key))
        elif -(-math.prod(shape) * BITS[dtype] // 8) != last - first:
            why = f"{dtype} {list(shape)} does not fill its {last - first} bytes"
            faults.append(wrong("tensor-offsets", why, at=key))
        else:
            tensors.append(TensorInfo(key, dtype, shape, name, 8 + length + first, last - first))
    if size < 8 + length + end:
        faults.append(wrong("file-truncated", f"cut short ({size} of {8 + length + end} bytes)"))
    elif size > 8 + length + end:
        faults.append(
            wrong("tensor-offsets", f"it is longer than its header says ({size} of {8 + length + end} bytes)")
        )
    faults += _overlaps(tensors, 8 + length, name) if not faults else []
    return tensors, faults


def _overlaps(tensors: list[TensorInfo], start: int, name: str) -> list[Fault]:
    place = start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != place:
            how = "overlaps the tensor before it" if tensor.offset < place else "leaves a hole before it"
            why = f"its data {how}; safetensors refuses such a file"
            return [Fault("tensor-offsets", f"{name}: {tensor.name}", why, "write the file again")]
        place += tensor.nbytes
    return []


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _DuplicateKeyError(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found
