"""The record of a searcher: how it is judged what a format costs a layer, and what it is shown for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Look:
    """One call of one layer: its output as it is, and as it would be with the layer quantized.

    Attributes:
        exact: the output of the layer as it is, any shape.
        rounded: the output of its quantized form for the same inputs; same shape.
        gradient: of the loss, summed over `samples` predictions, by `exact`; same shape. None where the searcher
            does not ask for gradients.
        samples: predictions in the batch that `gradient` is a sum over; 1 where there is none.
    """

    exact: Tensor
    rounded: Tensor
    gradient: Tensor | None = None
    samples: int = 1


@dataclass(frozen=True)
class SearcherSpec:
    """One way to judge what quantizing a layer costs.

    Attributes:
        name: what a user writes: `mtopt search --score NAME`.
        summary: one line for listings: what the number means.
        score: fp32 or fp64 []: the cost of one look; 0 where both outputs are the same, never negative. It is
            summed over the calls and the layers of a decision and averaged over the batches of the data; what
            different decisions cost is then added up.
        gradients: whether it wants the gradient of the loss: a backward a batch, and a model with a loss.
    """

    name: str
    summary: str
    score: Callable[[Look], Tensor]
    gradients: bool = False
