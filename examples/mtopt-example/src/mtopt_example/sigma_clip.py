"""The algorithm of this plugin: activations are cut off at a multiple of their root mean square."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mtcore.calibration import AlgorithmSpec, CalibrationRun, Needs, TensorStatistics
from mtcore.calibration.algorithms import (
    Amaxes,
    max_of,
    needs_data,
    planned_quantizers,
    set_activations,
    set_weights,
    static_activations,
    with_tensor_amax,
)
from mtcore.calibration.statistics import Wanted
from mtcore.nn import TensorQuantizer

NEEDS = Needs(moments=True)


class SigmaClipOptions(BaseModel):
    """Options of `sigma_clip`: how many root mean squares must fit; nothing above the largest magnitude is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sigmas: float = Field(6.0, gt=0)


def wanted(run: CalibrationRun, options: SigmaClipOptions) -> Wanted:
    """The second moment of every activation whose scale is fixed beforehand."""
    return dict.fromkeys(static_activations(dict(planned_quantizers(run))), NEEDS)


def run_sigma_clip(run: CalibrationRun, options: SigmaClipOptions) -> None:
    """Set per-tensor activation scales; all others, and weights, as `max` does."""

    def decide(quantizer: TensorQuantizer, statistics: TensorStatistics) -> Amaxes:
        rms = statistics.rms.square().mean().sqrt()  # of all columns
        amax = statistics.tensor_amax.minimum(options.sigmas * rms)
        return with_tensor_amax(quantizer, max_of(quantizer, statistics), amax)

    quantizers = dict(planned_quantizers(run))
    set_activations(run, quantizers, decide, NEEDS)
    set_weights(run, quantizers)


SIGMA_CLIP = AlgorithmSpec(
    "sigma_clip",
    "cut activations off at a multiple of their root mean square",
    SigmaClipOptions,
    needs_data,
    run_sigma_clip,
    wanted,
)
