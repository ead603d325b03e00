"""The header of a GGUF file: its key-value pairs, and whether the file is as long as its tensors need.

Written for two reasons: the gguf library takes many seconds over a large vocabulary, and opens a file that was cut
short. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from mtcore.errors import ModelError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_AXES = 4


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself.

    Attributes:
        values: key → number, text, or list of them.
        tensors: name → shape as the file gives it, the fastest axis first.
    """

    values: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]


def read_header(file: Path) -> GgufHeader:
    """Read the header and hold it against the size of the file.

    Raises:
        ModelError: this is no GGUF file, it is damaged, or it was cut short.
    """
    size = file.stat().st_size
    if size < 24:
        raise ModelError(f"{file}: {size} bytes are too few for a GGUF file; it was cut short")
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        cursor = _Cursor(content)
        try:
            header, needed = _parse(cursor)
        except (struct.error, EOFError) as error:
            raise ModelError(f"{file}: cut short inside its header ({size} bytes); fetch it again") from error
        except (ValueError, KeyError, UnicodeDecodeError) as error:
            raise ModelError(f"{file}: not a readable GGUF file: {error}") from error
    if size < needed:
        raise ModelError(f"{file}: cut short ({size} of {needed} bytes); fetch it again")
    return header


class _Cursor:
    """A position in the file that moves as values are read."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.at = content, 0

    def take(self, code: str, count: int = 1) -> tuple[Any, ...]:
        layout = f"<{count}{code}"
        values = struct.unpack_from(layout, self.content, self.at)
        self.at += struct.calcsize(layout)
        return values

    def text(self) -> str:
        (length,) = self.take("Q")
        raw = self.content[self.at : self.at + length]
        if len(raw) < length:
            raise EOFError
        self.at += length
        return raw.decode("utf-8", errors="replace")  # a vocabulary may hold lone bytes

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.take(_SCALARS[kind])[0]
        (inner,), (count,) = self.take("I"), self.take("Q")
        if count > len(self.content):
            raise EOFError
        if inner in _SCALARS:
            return list(self.take(_SCALARS[inner], count))
        return [self.value(inner) for _ in range(count)]


def _parse(cursor: _Cursor) -> tuple[GgufHeader, int]:
    """The header, and the number of bytes that the whole file needs."""
    magic, version = bytes(cursor.content[:4]), struct.unpack_from("<I", cursor.content, 4)[0]
    if magic != b"GGUF" or version not in _VERSIONS:
        raise ValueError(f"it starts with {magic!r}, version {version}; expected GGUF, version 2 or 3")
    cursor.at = 8
    tensor_count, value_count = cursor.take("Q", 2)
    values = {}
    for _ in range(value_count):
        key = cursor.text()
        values[key] = cursor.value(cursor.take("I")[0])
    tensors, end = {}, 0
    for _ in range(tensor_count):
        name = cursor.text()
        (axes,) = cursor.take("I")
        if axes > _MAX_AXES:
            raise ValueError(f"tensor {name!r} claims {axes} axes")
        tensors[name] = shape = cursor.take("Q", axes)
        kind, offset = GGMLQuantizationType(cursor.take("I")[0]), cursor.take("Q")[0]
        end = max(end, offset + _bytes(shape, kind))
    alignment = int(values.get("general.alignment", _DEFAULT_ALIGNMENT))
    data = -(-cursor.at // alignment) * alignment
    return GgufHeader(values, tensors), data + end


def _bytes(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    elements = 1
    for extent in shape:
        elements *= extent
    block, block_bytes = GGML_QUANT_SIZES[kind]
    return elements // block * block_bytes
