"""What a run takes from a data source: how much, in which pieces and order, and how the source is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataOptions:
    """How data become batches of token ids.

    Attributes:
        samples: chunks to take.
        length: tokens a chunk, the begin-of-sequence token included.
        batch_size: chunks a batch.
        format: how the source is read; "auto" goes by its name. Which formats there are is the plugins' business.
        field: name of the records' field (or of the tensor) that is used; None: the usual one.
        chat: the records are conversations, written out by the model's chat template.
        seed: draws the chunks at random from all data; None takes the first ones.
    """

    samples: int = 32
    length: int = 512
    batch_size: int = 4
    format: str = "auto"
    field: str | None = None
    chat: bool = False
    seed: int | None = None
