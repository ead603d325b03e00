"""TensorStatistics: what is known of one value over all of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mtcore.calibration.statistics.needs import Needs
from mtcore.formats import PER_TENSOR, Block
from mtcore.numerics import block_amax

SAMPLE_OFFSET = 0x9E3779B1
"""Row i is sampled where i ≡ this (mod stride): odd, so that the first token of every chunk is not among them."""


def sampling_stride(tokens: int, most: int, stride: int = 1) -> int:
    """The least stride, a power of two from `stride` on, that samples at most `most` of the rows 0 … tokens - 1."""
    while len(range(SAMPLE_OFFSET % stride, tokens, stride)) > most:
        stride *= 2
    return stride


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
        sample: [n, cols] in the value's own dtype: the rows i ≡ SAMPLE_OFFSET (mod `stride`).
        stride: a power of two, see `sample`.
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

    @cached_property
    def tensor_amax(self) -> Tensor:
        """The largest magnitude of all, fp32 []."""
        return self.amax.amax()

    def block_amax(self, block: Block) -> Tensor:
        """The largest magnitudes of blocks that span all rows, fp32 [1, grid cols]."""
        if block == PER_TENSOR:
            return self.tensor_amax.reshape(1, 1)
        return block_amax(self.amax[None], block)

    def rows(self, most: int) -> Tensor:
        """At most `most` sampled rows, fp32 [n, cols]: those that a sampler for so many would have kept."""
        sample = _known(self.sample, "sample")
        stride = sampling_stride(self.tokens, most, self.stride)
        skip = (SAMPLE_OFFSET % stride - SAMPLE_OFFSET % self.stride) // self.stride
        return sample[skip :: stride // self.stride].float()

    def covers(self, needs: Needs) -> bool:
        """Whether everything that is needed is here; a larger sample holds every smaller one."""
        return (
            (self.total is not None or not needs.moments)
            and (self.counts is not None or not needs.histogram)
            and set(needs.blocks) <= set(self.block_counts)
            and (self.gram is not None or not needs.gram)
            and (not needs.sample or self._sampled_for(needs.sample))
        )

    def _sampled_for(self, rows: int) -> bool:
        return self.sample is not None and sampling_stride(self.tokens, rows) >= self.stride

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
            sample=None if self.sample is None else (self.sample.float() / scales).to(self.sample.dtype),
            gram=None if self.gram is None else self.gram / scales / scales[:, None],
        )

    def to(self, device: torch.device | str) -> TensorStatistics:
        """With all tensors on a device."""
        moved: dict[str, Any] = {
            f.name: value.to(device) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)
        }
        blocks = {width: counts.to(device) for width, counts in self.block_counts.items()}
        return replace(self, **moved, block_counts=blocks)


def _known(value: Tensor | None, need: str) -> Tensor:
    assert value is not None, f"the algorithm did not declare that it needs {need}"
    return value
