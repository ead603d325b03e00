"""Several weights in one kernel: which are taken together, and the arguments that stand for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from mtopt_kernels.kernels.several import MOST_TOGETHER
from mtopt_kernels.sizes import cdiv


def filled(values: Sequence[Any], with_: Any = None) -> list[Any]:
    """As many as a kernel takes; no more than that are given."""
    return [*values, *[with_] * (MOST_TOGETHER - len(values))]


def tiles_of(features: Sequence[int], high: int) -> tuple[list[int], int]:
    """At which tile of `high` features the second, third and fourth weight begin, 0 for none; and all tiles."""
    ends = [0]
    for width in features:
        ends.append(ends[-1] + cdiv(width, high))
    return filled(ends[1:-1], 0)[: MOST_TOGETHER - 1], ends[-1]


def together(biases: Sequence[Tensor | None], scales: Sequence[Tensor]) -> Iterator[range]:
    """Places of weights that one kernel takes: next to each other, with biases or without, with as many scales."""
    first = 0
    for place in range(1, len(biases) + 1):
        alike = place < len(biases) and (
            (biases[place] is None) == (biases[first] is None)
            and (scales[place].numel() > 1) == (scales[first].numel() > 1)
        )
        if not alike or place - first == MOST_TOGETHER:
            yield range(first, place)
            first = place
