"""The `awq` algorithm: for every input that can be scaled, the channel scales under which rounding costs least."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mtcore.calibration.algorithms import max as max_algorithm
from mtcore.calibration.algorithms.max import MaxOptions, run_max
from mtcore.calibration.carried import (
    factors_of,
    inputs_to_scale,
    scale_inputs,
    sites_to_scale,
    with_carried_scales,
)
from mtcore.calibration.folding import ScaledInput
from mtcore.calibration.math import (
    best_amax,
    product_errors,
    quadratic,
    scale_candidates,
    scaled_amax,
)
from mtcore.calibration.math.awq import Rounding, ScaleChoice
from mtcore.calibration.products import wanted_products
from mtcore.calibration.quantizers import (
    Quantizers,
    WeightKey,
    factor_site,
    input_of,
    matrix_layers,
    planned_quantizers,
    weight_tensor,
)
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import Needs, Site, joined
from mtcore.formats import PER_TENSOR
from mtcore.nn import TensorQuantizer
from mtcore.numerics import block_amax, column_amax
from mtcore.plan import Holds, Plan

LOG = logging.getLogger(__name__)

_AT_ONCE = 2**22
"""Elements of candidates that are tried together: 16 MiB of fp32, and as much for each step of rounding."""


class AwqOptions(BaseModel):
    """Options of `awq`.

    grid: how many exponents are tried between 0 and 1.
    sample: tokens on which candidates are judged; so many rows of the inputs are kept in memory.
    rows: of every weight on which candidates are judged, evenly spaced; the rows of a weight lose alike.
    variant: "lite" chooses the channel scales; "clip" leaves them and shrinks the range of each block of a weight,
        where that costs the layer's outputs less; "full" does the one, then the other.
    judge: whether the rounding of weights, of inputs, or of "both" is judged. "inputs" suits a later step that
        rounds weights well by itself, such as gptq.
    least: the smallest share of a block's range that "clip" tries, in steps of 0.05.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    grid: int = Field(20, ge=1)
    sample: int = Field(128, ge=16)
    rows: int = Field(256, ge=16)
    variant: Literal["lite", "clip", "full"] = "lite"
    judge: Literal["both", "weights", "inputs"] = "both"
    least: float = Field(0.5, gt=0, le=1)


def needs_data(plan: Plan) -> bool:
    """Always: the scales come from the activations.

    A plan without linear layers and stacked experts does without.
    """
    return True


def wanted(run: CalibrationRun, options: AwqOptions) -> dict[Site, Needs]:
    """Sizes and a sample of what matrices are multiplied with, and the magnitudes that `max` wants."""
    scaled, clipped = options.variant != "clip", options.variant != "lite"
    needs = Needs(moments=scaled, sample=options.sample if scaled else 0)
    sites = sites_to_scale(run, matrix_layers(run.model, dict(planned_quantizers(run)))) if scaled else ()
    sizes = dict.fromkeys(sites, needs)
    return joined((sizes, wanted_products(run) if clipped else {}, max_algorithm.wanted(run, MaxOptions())))


def run_awq(run: CalibrationRun, options: AwqOptions) -> None:
    """Scale every input that a fold reaches or whose layer keeps its scales; set every amax; then clip weights.

    Raises:
        CalibrationError: no data, or data that is not finite.
    """
    quantizers = dict(planned_quantizers(run))
    layers = matrix_layers(run.model, quantizers)
    run.statistics.need(wanted(run, options))
    reached = 0
    for where in inputs_to_scale(run, layers) if options.variant != "clip" else ():
        choice = _choose(run, where, quantizers, options)
        LOG.info(
            "awq: %s: alpha %.2f, error %.4g of %.4g",
            where.group,
            choice.alpha,
            choice.error,
            choice.unscaled_error,
        )
        scale_inputs(run, where, choice.scales)
        reached += len(where.consumers)
    if options.variant != "clip":
        run.note(f"awq: scaled the inputs of {reached} of {len(layers)} weights")
    run_max(run, MaxOptions())
    if options.variant != "lite":
        run.statistics.need(wanted_products(run))  # folds may have changed what experts read
        for key in layers:
            _clip(run, quantizers[key], key, options)


def _clip(run: CalibrationRun, quantizer: TensorQuantizer, key: WeightKey, options: AwqOptions) -> None:
    """Shrink the range of each block where the block's share of the outputs loses less; Lin et al. 2023, 4.1."""
    fmt, outer = quantizer.format, quantizer.outer_amax
    if fmt.block == PER_TENSOR or not fmt.symmetric:
        return
    matrix = quantizer.matrix(weight_tensor(run.model, key).detach()).float()
    gram = run.statistics[factor_site(key)].gram
    assert gram is not None, "clipping without the products of the inputs"
    candidates = scaled_amax(block_amax(matrix, fmt.block), options.least, 1.0, 0.05)
    quantizer.set_amax(best_amax(matrix, fmt, candidates, quadratic(fmt.block, gram), outer), outer)


def _choose(run: CalibrationRun, where: ScaledInput, quantizers: Quantizers, options: AwqOptions) -> ScaleChoice:
    """Try the published scales of AWQ and of SmoothQuant, with every exponent of the grid."""
    inputs, weights = factors_of(run, where, quantizers)
    mean = where.channels_of({key: found.mean for key, found in inputs.items()})
    amax = where.channels_of({key: found.amax for key, found in inputs.items()})
    size = where.channels_of({key: column_amax(matrix) for key, matrix in weights.items()})
    alphas, scales = scale_candidates(mean, amax, size, options.grid)
    errors = torch.zeros(len(scales), device=scales.device)
    for key, found in inputs.items():
        weight = _spread(weights[key], options.rows).float().contiguous()
        round_inputs = _rounding(quantizers, input_of(key), options.judge != "weights")
        round_weights = _rounding(quantizers, key, options.judge != "inputs") or (lambda x: x)
        sample = found.rows(options.sample)
        columns = scales[:, where.consumers[key].to(scales.device)]
        largest = weight.numel() if round_inputs is None else max(weight.numel(), sample.numel())
        together = max(1, _AT_ONCE // largest)
        parts = [
            product_errors(weight, part, sample, round_weights, round_inputs)
            for part in columns.tensor_split(tuple(range(together, len(columns), together)))
        ]
        errors += torch.cat(parts)
    errors = torch.where(errors.isnan(), torch.inf, errors)
    winner = int(errors.argmin())  # the one wait for the device
    return ScaleChoice(scales[winner], float(errors[winner]), float(errors[0]), float(alphas[winner]))


def _spread(weight: Tensor, count: int) -> Tensor:
    """At most `count` rows of a weight, evenly spaced."""
    if len(weight) <= count:
        return weight
    return weight[torch.arange(count, device=weight.device) * len(weight) // count]


def _rounding(quantizers: Quantizers, key: tuple[str, str], wanted: bool) -> Rounding | None:
    """How a slot rounds matrices [n, rows, cols], each by itself; None where it does not, or is not judged."""
    quantizer = quantizers.get(key)
    if quantizer is None or not wanted:
        return None
    fmt = quantizer.format
    if fmt.block.rows == 1 and fmt.outer is None:  # rows do not touch each other
        return lambda x: quantizer.rounded_afresh(x.flatten(0, 1)).view_as(x)
    return lambda x: torch.stack([quantizer.rounded_afresh(matrix) for matrix in x])


def planned(plan: Plan, options: AwqOptions, holds: Holds) -> Plan:
    """Which layers keep their scales."""
    return plan if options.variant == "clip" else with_carried_scales(plan, "awq", holds)


AWQ = AlgorithmSpec(
    "awq",
    "channel scales under which rounding costs least, found on a grid",
    AwqOptions,
    needs_data,
    run_awq,
    wanted,
    folds=True,
    plan=planned,
    cost="one run of the data, and 40 roundings of rows of every weight; to clip, also Σ x xᵀ of every input",
    linear_only=True,
    experts=True,
)
