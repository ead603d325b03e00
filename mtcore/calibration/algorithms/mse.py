"""The `mse` algorithm: for weights and activations, the scales under which the squared error is least."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from mtcore.calibration.algorithms.max import (
    Amaxes,
    max_of,
    needs_data,
    set_activations,
    set_weights,
    share_amax,
    static_activations,
    with_tensor_amax,
)
from mtcore.calibration.math import best_amax, scaled_amax, squares
from mtcore.calibration.quantizers import Quantizers, planned_quantizers, weight_tensor
from mtcore.calibration.scales import swept, weight_amax
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import Needs, Site, TensorStatistics
from mtcore.formats import PER_TENSOR, Float32Element
from mtcore.nn import TensorQuantizer
from mtcore.numerics import dynamic_qparams, fake_quantize


class MseOptions(BaseModel):
    """Options of `mse`.

    start, stop, step: multiples of the largest magnitude that are tried, besides 1.
    sweep: where block scales are stored in few bits (NVFP4's in E4M3), try every neighbouring code of the scale
        instead of multiples.
    sample: rows of every activation on which candidates are judged.
    weights, activations: which of the two are searched; the other gets the scales of `max`, or keeps those of an
        earlier step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: float = Field(0.4, gt=0)
    stop: float = Field(1.2, gt=0, allow_inf_nan=False)
    step: float = Field(0.02, gt=0)
    sweep: bool = True
    sample: int = Field(512, ge=16)
    weights: bool = True
    activations: bool = True

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start > self.stop:
            raise ValueError(f"start {self.start} must not lie above stop {self.stop}")
        return self


def wanted(run: CalibrationRun, options: MseOptions) -> dict[Site, Needs]:
    """A sample of every activation whose scales are fixed beforehand."""
    return dict.fromkeys(static_activations(dict(planned_quantizers(run))), _needs(options))


def run_mse(run: CalibrationRun, options: MseOptions) -> None:
    """Search the scales of weights block by block, and those of activations on a sample.

    Weights whose scales follow a range (asymmetric formats) keep it; the log says so.

    Raises:
        CalibrationError: as for `max`.
    """
    quantizers = dict(planned_quantizers(run))
    run.statistics.need(wanted(run, options))

    def decide(quantizer: TensorQuantizer, statistics: TensorStatistics) -> Amaxes:
        plain = max_of(quantizer, statistics)
        return search_activation(quantizer, plain, statistics.rows(options.sample), options)

    if options.activations or run.first:
        set_activations(run, quantizers, decide if options.activations else max_of)
    if options.weights or run.first:
        set_weights(run, quantizers)
    if options.weights:
        _search_weights(run, quantizers, options)


def search_activation(quantizer: TensorQuantizer, plain: Amaxes, sample: Tensor, options: MseOptions) -> Amaxes:
    """The amax and outer amax near the plain ones with the least squared error on a sample, fp32 [n, cols]."""
    fmt, (amax, outer) = quantizer.format, plain
    if amax is not None and outer is None:
        candidates = scaled_amax(amax, options.start, options.stop, options.step)
        return best_amax(sample, fmt, candidates, squares(fmt.block)), None
    if amax is None and outer is not None:  # the blocks find their own scales below the outer one
        tried = scaled_amax(outer.view(1, 1), options.start, options.stop, options.step).flatten()
        errors = torch.stack(
            [(fake_quantize(sample, dynamic_qparams(sample, fmt, o)) - sample).square().sum() for o in tried]
        )
        return with_tensor_amax(quantizer, plain, tried[errors.nan_to_num(torch.inf).argmin()])
    return plain


def _search_weights(run: CalibrationRun, quantizers: Quantizers, options: MseOptions) -> None:
    left = []
    for (module, slot), quantizer in quantizers.items():
        if not quantizer.is_weight:
            continue
        if not quantizer.format.symmetric:
            left.append(f"{module}.{slot}")
            continue
        search_weight(quantizer, weight_tensor(run.model, (module, slot)), options)
    weights = [group for group in run.plan.groups if group.slot == "weight"]
    share_amax((g for g in weights if quantizers[g.modules[0], "weight"].format.outer is None), quantizers)
    if left:
        run.note(f"mse: {len(left)} weights in asymmetric formats keep their range, {left[0]} first")


def search_weight(quantizer: TensorQuantizer, weight: Tensor, options: MseOptions) -> None:
    """Set the amax of every block of a weight; a calibrated outer amax stays."""
    fmt, outer = quantizer.format, quantizer.outer_amax
    matrix = quantizer.matrix(weight.detach())
    amax = quantizer.amax if fmt.block == PER_TENSOR and quantizer.amax is not None else None
    amax = weight_amax(matrix, fmt) if amax is None else amax
    if options.sweep and not isinstance(fmt.inner.element, Float32Element):
        quantizer.set_amax(swept(matrix, fmt, amax, outer), outer)
        return
    candidates = scaled_amax(amax, options.start, options.stop, options.step)
    quantizer.set_amax(best_amax(matrix, fmt, candidates, squares(fmt.block), outer), outer)


def _needs(options: MseOptions) -> Needs:
    return Needs(sample=options.sample)


MSE = AlgorithmSpec(
    "mse",
    "scales under which the squared error is least",
    MseOptions,
    needs_data,
    run_mse,
    wanted,
    cost="one run of the data, and some 40 roundings of every weight and of a sample of every activation",
)
