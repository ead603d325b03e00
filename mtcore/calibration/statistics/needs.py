"""Needs: which statistics of which values an algorithm asks for, before any data runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Site = tuple[str, str]
"""Where a value is read: a module's name and one of its slots, ("layers.0.q_proj", "input")."""


@dataclass(frozen=True)
class Needs:
    """What to gather of one value, seen as a matrix [rows, cols]; rows are tokens. Its amax is always gathered.

    Attributes:
        moments: Σ |x| and Σ x² of every column.
        histogram: how many values have which magnitude.
        blocks: widths of blocks along a row whose magnitudes are counted.
        sample: how many rows to keep.
        gram: Σ x xᵀ, [cols, cols].

    Example:
        >>> Needs(sample=8) | Needs(sample=4, moments=True)
        Needs(moments=True, histogram=False, blocks=(), sample=8, gram=False)
    """

    moments: bool = False
    histogram: bool = False
    blocks: tuple[int, ...] = ()
    sample: int = 0
    gram: bool = False

    def parts(self) -> dict[str, Needs]:
        """Each single thing that is asked for beside the amax, by what a user calls it.

        Example:
            >>> list(Needs(sample=8, gram=True).parts())
            ['samples of 8 rows', 'products Σ x xᵀ']
        """
        every = {
            "mean sizes": Needs(moments=self.moments),
            "histograms": Needs(histogram=self.histogram),
            **{f"histograms of blocks of {width}": Needs(blocks=(width,)) for width in self.blocks},
            f"samples of {self.sample} rows": Needs(sample=self.sample),
            "products Σ x xᵀ": Needs(gram=self.gram),
        }
        return {name: part for name, part in every.items() if part != AMAX}

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.moments or other.moments,
            self.histogram or other.histogram,
            tuple(sorted({*self.blocks, *other.blocks})),
            max(self.sample, other.sample),
            self.gram or other.gram,
        )


AMAX = Needs()
"""The magnitudes alone."""

Wanted = Mapping[Site, Needs]


def joined(parts: Iterable[Wanted]) -> dict[Site, Needs]:
    """All that several askers want, each value once."""
    total: dict[Site, Needs] = {}
    for part in parts:
        for site, needs in part.items():
            total[site] = total[site] | needs if site in total else needs
    return total
