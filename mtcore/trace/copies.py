"""Copies: what was found of a block holds of every block that repeats it, under that one's names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from mtcore.trace.channels import BlockGroup, SymGroup
from mtcore.trace.folds import FoldGroup
from mtcore.trace.slices import Slices

Copies = Mapping[str, Sequence[str]]
"""Block → the blocks that repeat it, by dotted name."""

Symbols = TypeVar("Symbols", bound=SymGroup)


def copied_folds(groups: Iterable[FoldGroup], copies: Copies) -> Iterator[FoldGroup]:
    """Every group with those of the copies: of a group inside a block one more a copy, else more members."""
    for group in groups:
        home = _home((*group.up, *group.down), copies)
        if home is None:
            yield FoldGroup.of(group.size, _extended(group.up, copies), _extended(group.down, copies))
            continue
        yield group
        for rename in _renames(home, copies):
            yield FoldGroup.of(group.size, *(tuple(map(rename, side)) for side in (group.up, group.down)))


def copied_channels(groups: Iterable[Symbols], copies: Copies) -> Iterator[Symbols]:
    """As `copied_folds`, for groups of channels and of blocks."""
    for group in groups:
        home = _home(group.members, copies)
        if home is None:
            yield _with(group, _extended(group.members, copies))
            continue
        yield group
        for name, rename in zip(copies[home], _renames(home, copies), strict=True):
            copied = _with(group, tuple(map(rename, group.members)))
            if isinstance(copied, BlockGroup) and copied.chosen_in:
                copied = replace(copied, chosen_in=name + copied.chosen_in.removeprefix(home))
            yield copied


def original_of(parameter: str, copies: Copies) -> tuple[str, str] | None:
    """The block that was analysed for this parameter's block, and the latter; None where it was itself."""
    for original, names in copies.items():
        for name in names:
            if parameter.startswith(f"{name}."):
                return original, name
    return None


def copies_of(parameter: str, copies: Copies) -> Iterator[tuple[str, str]]:
    """The block that a parameter belongs to, with each block that repeats it."""
    home = _block_of(parameter, copies)
    if home is not None:
        yield from ((home, name) for name in copies[home])


def _with(group: Symbols, members: tuple[Slices, ...]) -> Symbols:
    return replace(group, name=SymGroup.name_of(members), members=members)


def _home(members: Iterable[Slices], copies: Copies) -> str | None:
    """The block with copies that all members belong to."""
    homes = {_block_of(part.parameter, copies) for part in members}
    return homes.pop() if len(homes) == 1 else None


def _block_of(parameter: str, copies: Copies) -> str | None:
    return next((block for block in copies if parameter.startswith(f"{block}.")), None)


def _extended(members: tuple[Slices, ...], copies: Copies) -> tuple[Slices, ...]:
    out = list(members)
    for part in members:
        home = _block_of(part.parameter, copies)
        if home is not None:
            out += [rename(part) for rename in _renames(home, copies)]
    return tuple(out)


def _renames(original: str, copies: Copies) -> Iterator[Callable[[Slices], Slices]]:
    def rename(name: str, part: Slices) -> Slices:
        return part.of(name + part.parameter.removeprefix(original))

    for name in copies[original]:
        yield partial(rename, name)
