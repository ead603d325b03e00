"""Values of small tensors and pieces of large ones, straight from the file as fp32; no matrix is read whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtcore.formats import PowerOfTwoElement
from mtcore.lint.headers import BITS, TensorInfo

PIECE = 16_384
"""Bytes of one piece of a large tensor."""

PIECES = 4
"""Pieces of a large tensor: at its start, at its end, evenly spaced between."""

_Decoder = Callable[[bytes], NDArray[np.float32]]


@dataclass(frozen=True)
class ScaleFacts:
    """What the values of a tensor are. Of a large one, `complete` is False and the facts are those of some pieces.

    `smallest` and `largest` are of the finite values; both 0.0 where there are none.
    """

    count: int
    nans: int
    infinities: int
    zeros: int
    negatives: int
    smallest: float
    largest: float
    complete: bool


class Values:
    """Reads values of the tensors of one directory. Nothing but what was asked for is held in memory."""

    def __init__(self, folder: Path, *, everything: bool = False) -> None:
        """`everything`: `facts` reads all pieces of large tensors, one after the other."""
        self._folder, self._everything = folder, everything
        self._open: tuple[str, int] | None = None
        self._facts: dict[str, ScaleFacts | None] = {}
        self._small: dict[str, NDArray[np.float32] | None] = {}

    def small(self, tensor: TensorInfo) -> NDArray[np.float32] | None:
        """The values of a tensor of at most one piece, fp32, flat; None where it is larger or cannot be read."""
        if tensor.name not in self._small:
            readable = tensor.nbytes <= PIECE and tensor.dtype in _DECODERS
            self._small[tensor.name] = self._read(tensor, 0, tensor.nbytes) if readable else None
        return self._small[tensor.name]

    def facts(self, tensor: TensorInfo) -> ScaleFacts | None:
        """What the values are; None where the file gives none."""
        if tensor.name not in self._facts:
            self._facts[tensor.name] = self._gather(tensor) if tensor.dtype in _DECODERS else None
        return self._facts[tensor.name]

    def close(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def _gather(self, tensor: TensorInfo) -> ScaleFacts | None:
        starts, complete = self._pieces(tensor.nbytes)
        count = nans = infinities = zeros = negatives = 0
        smallest, largest = np.inf, -np.inf
        for start in starts:
            values = self._read(tensor, start, min(PIECE, tensor.nbytes - start))
            if values is None:
                return None
            finite = values[np.isfinite(values)]
            count += values.size
            nans += int(np.isnan(values).sum())
            infinities += int(np.isinf(values).sum())
            zeros += int((values == 0).sum())
            negatives += int((finite < 0).sum())
            if finite.size:
                smallest, largest = min(smallest, float(finite.min())), max(largest, float(finite.max()))
        if smallest > largest:
            smallest = largest = 0.0
        return ScaleFacts(count, nans, infinities, zeros, negatives, float(smallest), float(largest), complete)

    def _pieces(self, size: int) -> tuple[list[int], bool]:
        whole = -(-size // PIECE)
        if self._everything or whole <= PIECES:
            return [piece * PIECE for piece in range(whole)], True
        last = size - PIECE
        return [round(last * piece / (PIECES - 1)) // 8 * 8 for piece in range(PIECES)], False

    def _read(self, tensor: TensorInfo, start: int, size: int) -> NDArray[np.float32] | None:
        raw = os.pread(self._descriptor(tensor.file), size, tensor.offset + start)
        if len(raw) != size:
            return None
        return _DECODERS[tensor.dtype](raw)

    def _descriptor(self, file: str) -> int:
        if self._open is None or self._open[0] != file:
            self.close()
            self._open = (file, os.open(self._folder / file, os.O_RDONLY))
        return self._open[1]


@cache
def _small_float(exponent: int, mantissa: int, bias: int, *, infinities: bool) -> NDArray[np.float32]:
    """Values of the 256 codes of an 8-bit float; without infinities the top code of each sign is NaN (OCP E4M3)."""
    codes = np.arange(256)
    power, fraction = (codes >> mantissa) & (2**exponent - 1), codes & (2**mantissa - 1)
    value = np.where(
        power > 0,
        (1 + fraction / 2**mantissa) * np.exp2(power - float(bias)),
        fraction / 2**mantissa * np.exp2(1.0 - bias),
    )
    top = power == 2**exponent - 1
    if infinities:
        value = np.where(top, np.where(fraction == 0, np.inf, np.nan), value)
    else:
        value = np.where(top & (fraction == 2**mantissa - 1), np.nan, value)
    return np.where(codes >> 7, -value, value).astype(np.float32)


@cache
def _powers_of_two() -> NDArray[np.float32]:
    """Values of the 256 codes of E8M0; the last is NaN."""
    element = PowerOfTwoElement()
    return np.array([element.value_of(code) for code in range(2**element.bits)], np.float32)


def _bf16(raw: bytes) -> NDArray[np.float32]:
    values: NDArray[np.float32] = (np.frombuffer(raw, np.dtype("<u2")).astype(np.uint32) << 16).view(np.float32)
    return values


def _plain(dtype: str) -> _Decoder:
    def decode(raw: bytes) -> NDArray[np.float32]:
        values: NDArray[np.float32] = np.frombuffer(raw, np.dtype(dtype)).astype(np.float32)
        return values

    return decode


_DECODERS: dict[str, _Decoder] = {
    "F64": _plain("<f8"),
    "F32": _plain("<f4"),
    "F16": _plain("<f2"),
    "BF16": _bf16,
    "F8_E4M3": lambda raw: _small_float(4, 3, 7, infinities=False)[np.frombuffer(raw, np.uint8)],
    "F8_E5M2": lambda raw: _small_float(5, 2, 15, infinities=True)[np.frombuffer(raw, np.uint8)],
    "F8_E8M0": lambda raw: _powers_of_two()[np.frombuffer(raw, np.uint8)],
    "U8": lambda raw: _powers_of_two()[np.frombuffer(raw, np.uint8)],  # MX block scales are stored as plain bytes
    "I64": _plain("<i8"),
    "I32": _plain("<i4"),
    "I8": _plain("i1"),
}
assert set(_DECODERS) <= set(BITS)
