"""Groups of a trace in one form, whatever their kind, with members that say which part of a parameter they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mtcore.trace import BlockGroup, Slices, SymGroup, TraceReport

SHARED, FOLD, CHANNELS, BLOCKS = "shared input", "fold", "channels", "blocks"
LANES = (SHARED, FOLD, CHANNELS, BLOCKS)
TIMES, DIVIDED = "\u00d7", "\u00f7"
SHORT = 12
"""Characters up to which indices are shown in a row; beyond, their number is."""


@dataclass(frozen=True)
class Member:
    """A module, or some indices along some axes of a parameter.

    Attributes:
        name: of the module or the parameter.
        axes: () for a module.
        sign: in a fold, whether the part is multiplied or divided.
        indices: which, as runs; '' for all of them.
        share: '24 of 48' where not all indices belong to the group.
    """

    name: str
    axes: tuple[int, ...] = ()
    sign: str = ""
    indices: str = ""
    share: str = ""

    @property
    def place(self) -> str:
        """'[0]', '[1: 0:32]' for indices that can be said shortly, '[0,1: 24 of 48]'; nothing for a module."""
        if not self.axes:
            return ""
        part = self.indices if len(self.indices) <= SHORT else self.share
        return f"[{','.join(map(str, self.axes))}{': ' + part if part else ''}]"


@dataclass(frozen=True)
class Group:
    """What belongs together: `size` channels or blocks of its members.

    `lane` is one of LANES, `kind` says it more closely: heads, experts. `state` is empty where there is none.
    """

    lane: str
    kind: str
    size: int
    members: tuple[Member, ...]
    state: str = ""
    reason: str = ""


def groups_of(report: TraceReport, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Group]:
    """All groups of a report: shared inputs, folds, channels, blocks."""
    for shared in report.shared_inputs:
        yield Group(SHARED, SHARED, len(shared.modules), tuple(map(Member, shared.modules)))
    for fold in report.folds:
        members = (*_members(fold.up, shapes, TIMES), *_members(fold.down, shapes, DIVIDED))
        yield Group(FOLD, FOLD, fold.size, members)
    for group in report.symbols:
        yield Group(CHANNELS, CHANNELS, group.size, _members(group.members, shapes), group.state, group.reason)
    for block in report.blocks:
        kind = _block_kind(report, block)
        yield Group(BLOCKS, kind, block.size, _members(block.members, shapes), block.state, block.reason)


def _members(parts: Sequence[Slices], shapes: Mapping[str, tuple[int, ...]], sign: str = "") -> tuple[Member, ...]:
    from mtcore.trace.runs import runs_text

    members = []
    for part in parts:
        shape = shapes[part.parameter]
        whole, some = prod(shape[axis] for axis in part.axes), len(set(part.indices))
        share = "" if some == whole else f"{some} of {whole}"
        indices = runs_text(sorted(part.indices)) if share else ""
        members.append(Member(part.parameter, part.axes, sign, indices, share))
    return tuple(members)


def _block_kind(report: TraceReport, block: BlockGroup) -> str:
    """Experts where a stack of matrices takes part, heads where one attention holds all members."""
    stacks = {f"{weight.module}.{weight.parameter}" for weight in report.stacked}
    if stacks & set(block.parameters):
        return "experts"
    if any(all(name.startswith(f"{site.module}.") for name in block.parameters) for site in report.attentions):
        sharing = _query_heads(report.symbols, block)
        return f"key-value groups of {sharing} heads" if sharing > 1 else "heads"
    return BLOCKS


def _query_heads(symbols: Sequence[SymGroup], block: BlockGroup) -> int:
    """How many query heads share a key-value head.

    A channel of the values is one row of them, and as many columns of the output projection as heads read it; so it
    is for keys and queries. In a group of such channels the parameters' shares tell the number.
    """
    ratios = [1]
    for group in symbols:
        if set(group.parameters) <= set(block.parameters):
            counts = Counter[str]()
            for part in group.members:
                counts[part.parameter] += len(part.indices)
            ratios.append(max(counts.values()) // min(counts.values()))
    return max(ratios)
