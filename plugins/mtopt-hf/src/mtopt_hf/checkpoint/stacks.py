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
    column of each of its elements.
    """
    assert pair.experts is not None
    if pair.experts < _PROBED:
        return "a stack of a single expert has no names on the hub that could be told; exclude it"
    shape = (pair.cols, pair.rows) if pair.transposed else (pair.rows, pair.cols)
    numbered = torch.arange(_PROBED * pair.rows * pair.cols, dtype=torch.int32).view(_PROBED, *shape)
    found = [(hub, _source(tensor, pair)) for hub, tensor in revert({name: numbered}).items()]
    if any(source is None or not hub.endswith(_WEIGHT) for hub, source in found):
        return STACKED_THERE
    pieces = [Piece(hub.removesuffix(_WEIGHT), *source) for hub, source in found if source is not None]
    patterns = _patterns(pieces)
    if patterns is None:
        return "on the hub its experts bear names that do not differ by their numbers; exclude it"
    return tuple(
        Piece(pattern.format(expert), expert, rows) for expert in range(pair.experts) for pattern, rows in patterns
    )


def _source(tensor: Tensor, pair: Pair) -> tuple[int, tuple[int, int] | None] | None:
    """The expert and the rows that a tensor on the hub holds, or None if it is no such matrix."""
    if tensor.dim() != 2 or tensor.shape[1] != pair.cols:
        return None
    flat = tensor.long()
    size, width = pair.rows * pair.cols, pair.rows if pair.transposed else pair.cols
    expert = int(flat[0, 0]) // size
    first, second = flat % size // width, flat % width
    rows, cols = (second, first) if pair.transposed else (first, second)
    begin, count = int(rows[0, 0]), tensor.shape[0]
    ordered = (rows == torch.arange(begin, begin + count)[:, None]).all() and (
        cols == torch.arange(pair.cols)
    ).all()
    if not ordered or not (flat // size == expert).all():
        return None
    return expert, None if count == pair.rows else (begin, begin + count)


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
