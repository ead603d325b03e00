"""The `headroom` algorithm: outer activation scales with room for values that the data did not show."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtcore.calibration.algorithms.max import Amaxes, max_of
from mtcore.calibration.algorithms.ranges import range_algorithm
from mtcore.calibration.math import headroom_amax
from mtcore.calibration.statistics import AMAX, Needs, TensorStatistics
from mtcore.nn import TensorQuantizer


class HeadroomOptions(BaseModel):
    """Options of `headroom`, see `mtcore.calibration.math.headroom_amax`.

    anchor: percentile of the blocks' magnitudes: these small blocks must keep a scale of full precision.
    upper: percentile of the blocks' magnitudes below which nothing is cut off.
    spread: ratio of the largest to the least magnitude that the block scales hold at full precision.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    anchor: float = Field(1.0, ge=0, lt=100)
    upper: float = Field(99.99, gt=0, le=100)
    spread: float = Field(16384.0, gt=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.anchor >= self.upper:
            raise ValueError(f"anchor {self.anchor} must lie below upper {self.upper}")
        return self


def decide(options: HeadroomOptions, quantizer: TensorQuantizer, statistics: TensorStatistics) -> Amaxes:
    """Outer scales of two-level formats with headroom; all others as `max` does."""
    amax, outer = max_of(quantizer, statistics)
    if outer is None:
        return amax, outer
    counts = statistics.block_counts[quantizer.format.block.cols]
    found = headroom_amax(counts, anchor=options.anchor, upper=options.upper, spread=options.spread)
    return amax, torch.tensor(found, device=outer.device)


def needs(quantizer: TensorQuantizer) -> Needs:
    """The magnitudes of the blocks of an activation in a two-level format; those of the tensor elsewhere."""
    fmt = quantizer.format
    return AMAX if fmt.outer is None else Needs(blocks=(fmt.block.cols,))


HEADROOM = range_algorithm(
    "headroom",
    "outer activation scales (NVFP4) with room for values that were not seen",
    HeadroomOptions,
    decide,
    needs,
    cost="one run of the data, with a histogram of the blocks of every activation",
)
