"""A calibration algorithm: `max`, with activations cut at a share of the largest magnitude."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mtcore.calibration import AlgorithmSpec, CalibrationRun, TensorStatistics
from mtcore.calibration.algorithms import (
    Amaxes,
    max_of,
    needs_data,
    planned_quantizers,
    set_activations,
    set_weights,
    wanted,
)
from mtcore.nn import TensorQuantizer


class ShrinkOptions(BaseModel):
    """Options of `template-shrink`.

    share: of the largest magnitude seen, in (0, 1]; what lies beyond is cut.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(0.9, gt=0, le=1)


def run(run: CalibrationRun, options: ShrinkOptions) -> None:
    """Set the amax of every quantizer of the plan.

    Raises:
        CalibrationError: as for `max`.
    """

    def decide(quantizer: TensorQuantizer, statistics: TensorStatistics) -> Amaxes:
        amax, outer = max_of(quantizer, statistics)
        return (
            None if amax is None else amax * options.share,
            None if outer is None else outer * options.share,
        )

    quantizers = dict(planned_quantizers(run))
    set_activations(run, quantizers, decide)
    if run.first:  # what an earlier step of a chain decided about weights stays
        set_weights(run, quantizers)


SHRINK = AlgorithmSpec(
    "template-shrink",
    "activations cut at a share of the largest magnitude",
    ShrinkOptions,
    needs_data,
    run,
    statistics=wanted,
)
