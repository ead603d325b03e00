"""How much data a run takes from a source, and in which pieces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataOptions:
    """How a text becomes batches of token ids.

    Attributes:
        samples: chunks to take, from the start of the data.
        length: tokens a chunk, the begin-of-sequence token included.
        batch_size: chunks a batch.
    """

    samples: int = 32
    length: int = 512
    batch_size: int = 4
