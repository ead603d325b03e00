"""How a model is quantized block by block."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerwiseOptions:
    """
    Attributes:
        max_memory: bytes of host memory that the process may hold at most, or None for no ceiling. A run that
            cannot keep to it stops, and says what it needs.
        propagate: whether a block is calibrated on the inputs that it gets from blocks that are quantized already.
            Otherwise on those of the original model, as in a run on the whole model. Algorithms that go block by
            block themselves, such as gptq, get both in any case.
        restart: throw away what an earlier run of the same output left, instead of going on.
        device: where blocks are computed; weights come and go block by block.
    """

    max_memory: int | None = None
    propagate: bool = False
    restart: bool = False
    device: str = "cpu"
