"""Safetensors files written tensor by tensor and read as views of the file, whatever their size."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtcore.errors import StateError
from mtcore.files.ahead import HELD_BYTES, made_ahead
from mtcore.files.pages import drop_fetched, drop_pages, fetch_pages
from mtcore.files.pieces import Bytes, PieceWriter, in_pieces
from mtcore.files.whole import whole_file

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


Facts = tuple[torch.dtype, torch.Size]


class TensorSource(Mapping[str, Tensor]):
    """Tensors that are made or read when they are asked for; dtype and shape are told without that."""

    def facts(self, name: str) -> Facts:
        """Dtype and shape of a tensor."""
        raise NotImplementedError


def facts_of(tensors: Mapping[str, Tensor], name: str) -> Facts:
    """Dtype and shape of a tensor, without making it where the mapping can tell."""
    if isinstance(tensors, TensorSource):
        return tensors.facts(name)
    tensor = tensors[name]
    drop_pages(tensor)  # what was read of it to know its shape
    return tensor.dtype, tensor.shape


def save_tensors(
    path: Path,
    names: Iterable[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    cached: bool = True,
) -> None:
    """Write some tensors of a mapping as a safetensors file that appears whole.

    Each tensor is asked for its values once, in a thread that works while those before are written, and let go of
    at once: a mapping that makes or reads its tensors when asked holds three of them and `HELD_BYTES`, or a single
    larger one. One that is no `TensorSource` is asked for its shape as well. The same tensors give the same bytes.
    One on the meta device becomes a hole, so that the file has its size and takes no place on the disk.

    Args:
        cached: whether the file is read soon; see `in_pieces`.

    Raises:
        OSError: the disk is full, say.
        ValueError: a dtype that the format does not know.
    """
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(sorted(metadata.items()))}
    facts = [(name, *facts_of(tensors, name)) for name in names]
    for name, dtype, _ in facts:
        if dtype not in _NAMES:
            raise ValueError(f"{name}: a safetensors file holds no {dtype}")
    order = sorted(facts, key=lambda fact: (-fact[1].itemsize, fact[0]))
    end = 0  # wide elements first, so that every tensor is aligned
    for name, dtype, shape in order:
        start, end = end, end + dtype.itemsize * shape.numel()
        entries[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    sizes = [dtype.itemsize * shape.numel() for _, dtype, shape in order]

    def values(number: int) -> tuple[Tensor, bool]:
        name = order[number][0]
        try:
            tensor = tensors[name].detach()
            tensor = tensor if tensor.is_meta else tensor.cpu().contiguous()
            return tensor, fetch_pages(tensor)
        except Exception as error:
            error.add_note(f"while {name} was made for {path}")
            raise

    with whole_file(path) as file:
        with (
            in_pieces(file, cached=cached) as pieces,
            made_ahead(sizes, values, held_bytes=HELD_BYTES) as made,
        ):
            pieces.write(np.frombuffer(struct.pack("<Q", len(header)) + header, np.uint8))
            _write_all(pieces, made, sizes)
        file.truncate(8 + len(header) + end)


def _write_all(pieces: PieceWriter, made: Iterator[tuple[Tensor, bool]], sizes: Sequence[int]) -> None:
    """Write tensors, of which it is known whether they lie in a file; those on the meta device become holes."""
    for size in sizes:
        tensor, fetched = next(made)
        if tensor.is_meta:
            pieces.skip(size)
        else:
            pieces.write(_bytes(tensor))
        if fetched:
            drop_fetched(tensor)
        del tensor


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file as views of the file, which cost memory only while their pages are touched.

    A view may be written to, which then is memory of its own; the file stays as it is. `drop_pages` lets go of the
    pages that were only read.

    Raises:
        StateError: the file is missing, cut short, or no safetensors file.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            (length,) = struct.unpack("<Q", self._map[:8])
            self._start = 8 + length
            self._entries: dict[str, Any] = json.loads(self._map[8 : self._start])
            self.metadata: dict[str, str] = self._entries.pop("__metadata__", {})
            end = max((entry["data_offsets"][1] for entry in self._entries.values()), default=0)
            if self._start + end != len(self._map):
                raise ValueError(f"it has {len(self._map)} of {self._start + end} bytes")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise StateError(f"{path}: not a whole safetensors file ({error})") from error

    def __getitem__(self, name: str) -> Tensor:
        entry = self._entries[name]
        dtype, (start, end) = _DTYPES[entry["dtype"]], entry["data_offsets"]
        if start == end:
            return torch.empty(entry["shape"], dtype=dtype)
        count = (end - start) // dtype.itemsize
        flat = torch.frombuffer(self._map, dtype=dtype, count=count, offset=self._start + start)
        return flat.reshape(entry["shape"])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _bytes(tensor: Tensor) -> Bytes:
    found: Bytes = tensor.reshape(-1).view(torch.uint8).numpy()
    return found
