"""The `headroom` algorithm: outer activation scales with room for values that the data did not show."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtcore.calibration.algorithms.max import (
    Amaxes,
    max_of,
    needs_data,
    set_activations,
    set_weights,
    static_activations,
)
from mtcore.calibration.math import headroom_amax
from mtcore.calibration.quantizers import planned_quantizers
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import AMAX, Needs, Site, TensorStatistics
from mtcore.nn import TensorQuantizer


class HeadroomOptions(BaseModel):
    """Options of `headroom`, see `mtcore.calibration.math.headroom_amax`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    anchor: float = Field(1.0, ge=0, lt=100)
    upper: float = Field(99.99, gt=0, le=100)
    spread: float = Field(16384.0, gt=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.anchor >= self.upper:
            raise ValueError(f"anchor {self.anchor} must lie below upper {self.upper}")
        return self


def wanted(run: CalibrationRun, options: HeadroomOptions) -> dict[Site, Needs]:
    """The magnitudes of the blocks of every activation in a two-level format; those of the tensor elsewhere."""
    return {
        site: _needs(quantizer) for site, quantizer in static_activations(dict(planned_quantizers(run))).items()
    }


def run_headroom(run: CalibrationRun, options: HeadroomOptions) -> None:
    """Give two-level activations headroom; set all others, and weights, as `max` does.

    Raises:
        CalibrationError: as for `max`.
    """

    def decide(quantizer: TensorQuantizer, statistics: TensorStatistics) -> Amaxes:
        amax, outer = max_of(quantizer, statistics)
        if outer is None:
            return amax, outer
        counts = statistics.block_counts[_width(quantizer)]
        found = headroom_amax(counts, anchor=options.anchor, upper=options.upper, spread=options.spread)
        return amax, torch.tensor(found, device=outer.device)

    quantizers = dict(planned_quantizers(run))
    run.statistics.need(wanted(run, options))
    set_activations(run, quantizers, decide)
    set_weights(run, quantizers)


def _needs(quantizer: TensorQuantizer) -> Needs:
    return AMAX if quantizer.format.outer is None else Needs(blocks=(_width(quantizer),))


def _width(quantizer: TensorQuantizer) -> int:
    return quantizer.format.block.cols


HEADROOM = AlgorithmSpec(
    "headroom",
    "outer activation scales with room for values that were not seen",
    HeadroomOptions,
    needs_data,
    run_headroom,
    wanted,
)
