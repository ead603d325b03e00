"""Where the matrices of stacked experts lie on the hub, found by sending numbers through the conversion."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mtopt_hf.checkpoint.pairs import Pair

Revert = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]

STACKED_THERE = "on the hub its experts are not one matrix each"

_WEIGHT = ".weight"
_PROBED = 2  # experts that are sent through; the others are named after them
_ROWS, _COLS = 16, 4  # of a small matrix that stands for a large one

Source = tuple[int, tuple[int, int] | None]
"""An expert, and the rows of its matrix; all rows where None."""


@dataclass(frozen=True)
class Piece:
    """One tensor on the hub: rows [first, end) of the matrix of one expert; all rows where `rows` is None."""

    name: str
    expert: int
    rows: tuple[int, int] | None


def pieces_of(name: str, pair: Pair, revert: Revert) -> tuple[Piece, ...] | str:
    """The tensors of the hub that hold the experts' matrices, or why they cannot be written.

    Args:
        name: of the stacked parameter in memory.
        pair: its shape and orientation.
        revert: from a state dict in memory to that of the hub.

    Every element of a stand-in for two experts holds its own number, so that the outcome tells expert, row and
    column of each of its elements. The stand-in is small where one of full size, which holds nothing, has the same
    outcome in names and shapes.
    """
    assert pair.experts is not None
    if pair.experts < _PROBED:
        return "a stack of a single expert has no names on the hub that could be told; exclude it"
    found = _scaled(name, pair, revert)
    if found is None:
        found = _sources(name, pair.rows, pair.cols, pair.transposed, revert)
    if any(source is None or not hub.endswith(_WEIGHT) for hub, source in found):
        return STACKED_THERE
    pieces = [Piece(hub.removesuffix(_WEIGHT), *source) for hub, source in found if source is not None]
    patterns = _patterns(pieces)
    if patterns is None:
        return "on the hub its experts bear names that do not differ by their numbers; exclude it"
    return tuple(
        Piece(pattern.format(expert), expert, rows) for expert in range(pair.experts) for pattern, rows in patterns
    )


def _sources(name: str, rows: int, cols: int, transposed: bool, revert: Revert) -> list[tuple[str, Source | None]]:
    """What each tensor of the hub holds of a stack of two matrices of this size."""
    shape = (cols, rows) if transposed else (rows, cols)
    numbered = torch.arange(_PROBED * rows * cols, dtype=torch.int32).view(_PROBED, *shape)
    reverted = revert({name: numbered})
    return [(hub, _source(tensor, rows, cols, transposed=transposed)) for hub, tensor in reverted.items()]


def _scaled(name: str, pair: Pair, revert: Revert) -> list[tuple[str, Source | None]] | None:
    """The same for a small stack, its rows scaled up; None where the full size gives other names or shapes."""
    shape = (pair.cols, pair.rows) if pair.transposed else (pair.rows, pair.cols)
    try:
        small = _sources(name, _ROWS, _COLS, pair.transposed, revert)
        whole = revert({name: torch.empty(_PROBED, *shape, device="meta")})
    except (RuntimeError, ValueError, IndexError):
        return None  # a conversion that does not work on every size
    if any(tensor.dim() != 2 for tensor in whole.values()):
        return [(hub, None) for hub in whole]
    found: list[tuple[str, Source | None]] = []
    for hub, source in small:
        if source is None:
            return None
        expert, rows = source
        first, end = rows or (0, _ROWS)
        if first * pair.rows % _ROWS or end * pair.rows % _ROWS:
            return None
        first, end = first * pair.rows // _ROWS, end * pair.rows // _ROWS
        if hub not in whole or tuple(whole[hub].shape) != (end - first, pair.cols):
            return None
        found.append((hub, (expert, None if rows is None else (first, end))))
    return found if len(found) == len(whole) else None


def _source(tensor: Tensor, height: int, width: int, *, transposed: bool) -> Source | None:
    """The expert and the rows that a tensor on the hub holds, or None if it is no such matrix."""
    if tensor.dim() != 2 or tensor.shape[1] != width or not len(tensor):
        return None
    flat = tensor.long()
    size, stride = height * width, height if transposed else width
    expert = int(flat[0, 0]) // size
    first, second = flat % size // stride, flat % stride
    rows, cols = (second, first) if transposed else (first, second)
    begin, count = int(rows[0, 0]), tensor.shape[0]
    ordered = (rows == torch.arange(begin, begin + count)[:, None]).all() and (cols == torch.arange(width)).all()
    if not ordered or not (flat // size == expert).all():
        return None
    return expert, None if count == height else (begin, begin + count)


def _patterns(pieces: list[Piece]) -> list[tuple[str, tuple[int, int] | None]] | None:
    """Names of the first expert with a place for the number, in the order of their rows; None if there is none."""
    mine = [piece for piece in pieces if piece.expert == 0]
    theirs = {piece.name: piece.rows for piece in pieces if piece.expert == 1}
    patterns = []
    for piece in mine:
        places = [match.span() for match in re.finditer(r"(?<![^.])0(?![^.])", piece.name)]
        fitting = [
            (piece.name[:start] + "{}" + piece.name[end:])
            for start, end in places
            if theirs.get(piece.name[:start] + "1" + piece.name[end:], ()) == piece.rows
        ]
        if len(fitting) != 1:
            return None
        patterns.append((fitting[0], piece.rows))
    return sorted(patterns, key=lambda pattern: pattern[1] or (0, 0))
