"""TensorStatistics: what is known of one value over all of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mtcore.calibration.statistics.needs import Needs
from mtcore.formats import Block
from mtcore.numerics import block_amax


@dataclass(frozen=True)
class TensorStatistics:
    """Statistics of one value, seen as a matrix [rows, cols] in every batch.

    Attributes:
        tokens, batches: rows and matrices that were seen; empty ones do not count.
        amax: fp32 [cols], largest magnitudes; [1] where the number of columns changed from batch to batch.
        least: fp32 [], the smallest amax that a whole batch had.
        total, squares: fp32 [cols], Σ |x| and Σ x².
        counts: int64 [bins], values by magnitude, see `mtcore.calibration.math.log_counts`.
        block_counts: the same for the magnitudes of blocks of some width along a row.
        sample: [n, cols] in the value's own dtype: every `stride`-th row.
        stride: see `sample`.
        gram: fp32 [cols, cols], Σ x xᵀ.

    What was not asked for is None.
    """

    tokens: int
    batches: int
    amax: Tensor
    least: Tensor
    total: Tensor | None = None
    squares: Tensor | None = None
    counts: Tensor | None = None
    block_counts: Mapping[int, Tensor] = field(default_factory=dict)
    sample: Tensor | None = None
    stride: int = 1
    gram: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """Mean |x|, fp32 [cols]."""
        return _known(self.total, "moments") / max(1, self.tokens)

    @property
    def rms(self) -> Tensor:
        """Root mean square, fp32 [cols]."""
        return (_known(self.squares, "moments") / max(1, self.tokens)).sqrt()

    @property
    def tensor_amax(self) -> Tensor:
        """The largest magnitude of all, fp32 []."""
        return self.amax.amax()

    def block_amax(self, block: Block) -> Tensor:
        """The largest magnitudes of blocks that span all rows, fp32 [1, grid cols]."""
        return block_amax(self.amax[None], block)

    def rows(self, most: int) -> Tensor:
        """At most `most` sampled rows, fp32 [n, cols], evenly spaced."""
        sample = _known(self.sample, "sample")
        if len(sample) > most:
            sample = sample[torch.arange(most, device=sample.device) * len(sample) // most]
        return sample.float()

    def covers(self, needs: Needs) -> bool:
        """Whether everything that is needed is here. A sample of all rows there are is enough for any need."""
        return (
            (self.total is not None or not needs.moments)
            and (self.counts is not None or not needs.histogram)
            and set(needs.blocks) <= set(self.block_counts)
            and (self.gram is not None or not needs.gram)
            and (not needs.sample or self._sampled_for(needs.sample))
        )

    def _sampled_for(self, rows: int) -> bool:
        # A sampler for `rows` keeps more than half as many, unless the data holds fewer.
        return self.sample is not None and (self.stride == 1 or 2 * len(self.sample) >= rows)

    def divided(self, scales: Tensor) -> TensorStatistics:
        """Of the value whose columns are divided by `scales`, positive, fp32 [cols].

        Counts are lost: they say nothing about single columns.
        """
        scales = scales.to(self.amax.device)
        return replace(
            self,
            amax=self.amax / scales,
            total=None if self.total is None else self.total / scales,
            squares=None if self.squares is None else self.squares / scales.square(),
            counts=None,
            block_counts={},
            sample=None if self.sample is None else self.sample.float() / scales,
            gram=None if self.gram is None else self.gram / scales / scales[:, None],
        )

    def to(self, device: torch.device | str) -> TensorStatistics:
        """With all tensors on a device."""
        moved: dict[str, Any] = {
            n: value.to(device) for n, value in vars(self).items() if isinstance(value, Tensor)
        }
        blocks = {width: counts.to(device) for width, counts in self.block_counts.items()}
        return replace(self, **moved, block_counts=blocks)


def _known(value: Tensor | None, need: str) -> Tensor:
    assert value is not None, f"the algorithm did not declare that it needs {need}"
    return value
