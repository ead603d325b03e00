"""Experts: layers of module lists that data reach unevenly, and those of them that data hardly reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from mtcore.calibration.statistics import Statistics

SHARE = 0.1
"""An expert is starved where it saw less than this share of what its siblings saw on average."""


@dataclass(frozen=True)
class StarvedExpert:
    """A layer of an expert, how many tokens it saw, and how many its siblings saw on average."""

    name: str
    tokens: int
    average: float


def starved_experts(model: nn.Module, layers: Iterable[str], statistics: Statistics) -> tuple[StarvedExpert, ...]:
    """Layers at one place of the children of an nn.ModuleList that saw far fewer tokens than the others.

    The blocks of a decoder all see the same tokens, so that none of them is starved.
    """
    siblings: dict[tuple[str, str], list[str]] = {}
    for name in layers:
        place = _place(model, name)
        if place is not None:
            siblings.setdefault(place, []).append(name)
    found = []
    for names in siblings.values():
        counts = {n: statistics[n, "input"].tokens if (n, "input") in statistics else 0 for n in names}
        average = sum(counts.values()) / len(counts)
        found += [StarvedExpert(name, count, average) for name, count in counts.items() if count < SHARE * average]
    return tuple(found)


def _place(model: nn.Module, name: str) -> tuple[str, str] | None:
    """The innermost module list around a layer, and the layer's name behind the list's child; None without one."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        prefix = ".".join(parts[:length])
        if isinstance(model.get_submodule(prefix), nn.ModuleList):
            return prefix, ".".join(parts[length + 1 :])
    return None
