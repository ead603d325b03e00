"""The `max` algorithm: every scale maps the largest magnitude seen onto the largest code."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from mtcore.calibration.quantizers import Quantizers, planned_quantizers, weight_tensor
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import AMAX, Needs, Site, TensorStatistics
from mtcore.calibration.statistics.gather import all_at_once
from mtcore.errors import CalibrationError
from mtcore.formats import PER_TENSOR, WHOLE
from mtcore.nn import TensorQuantizer
from mtcore.numerics import four_over_six_qparams, tensor_amax
from mtcore.plan import Plan, ScaleGroup

LOG = logging.getLogger(__name__)

Amaxes = tuple[Tensor | None, Tensor | None]
"""Amax of the blocks, fp32 [grid rows, grid cols], and of the tensor, fp32 []; None: a level that is not fixed."""

Decide = Callable[[TensorQuantizer, TensorStatistics], Amaxes]
"""From an activation's quantizer and statistics to its magnitudes."""


class MaxOptions(BaseModel):
    """Options of `max`.

    four_over_six: each block of a weight in a two-level float format (NVFP4) puts its largest magnitude on 6 or on
        4, whichever gives the smaller squared error; see `mtcore.numerics.four_over_six_qparams`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    four_over_six: bool = False


def needs_data(plan: Plan) -> bool:
    """Whether any activation of the plan has a scale that is fixed beforehand, and by data."""
    return any(
        slot.scales_from_data
        for module in plan.quantized
        for slot in module.slots
        if slot.slot not in dict(module.shapes)
    )


def run_max(run: CalibrationRun, options: MaxOptions) -> None:
    """Set the amax of every quantizer of the plan.

    Raises:
        CalibrationError: no data was given though activations need it; a quantizer saw none; a magnitude is not
            finite. The message names the tensors; quantizers keep what they had.
    """
    quantizers = dict(planned_quantizers(run))
    set_activations(run, quantizers, max_of)
    set_weights(run, quantizers)
    if options.four_over_six:
        for (module, slot), quantizer in quantizers.items():
            if quantizer.is_weight and quantizer.format.outer is not None:
                choose_four_or_six(quantizer, weight_tensor(run.model, (module, slot)))


def choose_four_or_six(quantizer: TensorQuantizer, weight: Tensor) -> None:
    """Set the magnitudes of a calibrated weight quantizer so that its scales are those of four over six.

    What is stored stays the plain format: a block that puts its amax on 4 looks like one of 6/4 times the amax.
    """
    fmt = quantizer.format
    chosen = four_over_six_qparams(quantizer.matrix(weight.detach()), fmt, quantizer.outer_amax)
    assert chosen.scale_2 is not None, "a two-level format without an outer scale"
    quantizer.set_amax(chosen.multiplier() * fmt.target, chosen.scale_2 * fmt.outer_target)


def static_activations(quantizers: Quantizers) -> dict[Site, TensorQuantizer]:
    """The activation quantizers whose scales are fixed beforehand, at least in part, and not by a constant."""
    return {
        site: q
        for site, q in quantizers.items()
        if not q.is_weight and q.mode != "dynamic" and q.constant_amax is None
    }


def wanted(run: CalibrationRun, options: BaseModel) -> dict[Site, Needs]:
    """The magnitudes of every activation whose scales are fixed beforehand."""
    return dict.fromkeys(static_activations(dict(planned_quantizers(run))), AMAX)


def set_activations(run: CalibrationRun, quantizers: Quantizers, decide: Decide, needs: Needs = AMAX) -> None:
    """Set the amax of every activation whose scales are fixed beforehand.

    Args:
        decide: what is set.
        needs: statistics that `decide` reads.

    Raises:
        CalibrationError: as in `Statistics.need`.
    """
    activations = static_activations(quantizers)
    if not activations:
        return
    run.statistics.need(dict.fromkeys(activations, needs))
    for site, quantizer in activations.items():
        quantizer.set_amax(*decide(quantizer, run.statistics[site]))
        if LOG.isEnabledFor(logging.INFO):  # it waits for the device
            ranges = [float(amax.max()) for amax in (quantizer.outer_amax, quantizer.amax) if amax is not None]
            largest = float(run.statistics[site].tensor_amax)
            LOG.info("%s: range up to %.4g, largest seen %.4g", ".".join(site), max(ranges, default=0.0), largest)


def max_of(quantizer: TensorQuantizer, statistics: TensorStatistics) -> Amaxes:
    """The largest magnitudes, of the blocks and of the tensor."""
    fmt = quantizer.format
    fixed = quantizer.mode == "static" and fmt.block.rows == WHOLE
    return (
        statistics.block_amax(fmt.block) if fixed else None,
        None if fmt.outer is None else statistics.tensor_amax,
    )


def with_tensor_amax(quantizer: TensorQuantizer, plain: Amaxes, amax: Tensor) -> Amaxes:
    """The plain magnitudes with another one, fp32 [], for the tensor; the same where no scale is per tensor."""
    if quantizer.format.outer is not None:
        return plain[0], amax
    if quantizer.format.block == PER_TENSOR and plain[0] is not None:
        return amax.reshape(1, 1), None
    return plain


def set_weights(run: CalibrationRun, quantizers: Quantizers) -> None:
    """Fix what the scales of weights need of the whole tensor, and give the slots of every scale group one amax."""
    weights = {site: quantizer for site, quantizer in quantizers.items() if quantizer.is_weight}
    amaxes = [calibrate_weight(quantizer, weight_tensor(run.model, site)) for site, quantizer in weights.items()]
    finite = all_at_once(amaxes, torch.isfinite)
    for site, sound in zip(weights, finite, strict=True):
        if sound is False:
            raise CalibrationError(
                f"{'.'.join(site)}: the weight holds NaN or infinite values; it cannot be quantized"
            )
    share_amax(run.plan.groups, quantizers)


def calibrate_weight(quantizer: TensorQuantizer, weight: Tensor) -> Tensor | None:
    """Fix what a weight's scales need of the whole tensor; block scales come from the weight itself.

    Returns:
        The tensor's amax, fp32 [], which the caller checks; None where the format needs none.
    """
    if not quantizer.format.needs_tensor_amax:
        quantizer.set_amax(None, None)
        return None
    amax = tensor_amax(quantizer.matrix(weight.detach()))
    two_levels = quantizer.format.outer is not None
    quantizer.set_amax(None if two_levels else amax.reshape(1, 1), amax if two_levels else None)
    return amax


def share_amax(groups: Iterable[ScaleGroup], quantizers: Quantizers) -> None:
    """Give all slots of each group the largest of their per-tensor magnitudes; few launches for many groups."""
    alike: dict[tuple[torch.device, int], list[list[TensorQuantizer]]] = {}
    for group in groups:
        members = [quantizers[name, group.slot] for name in group.modules]
        alike.setdefault((_tensor_amax(members[0]).device, len(members)), []).append(members)
    for (device, size), several in alike.items():
        known = torch.stack([_tensor_amax(member).to(device) for members in several for member in members])
        for members, shared in zip(several, known.view(-1, size).amax(1).unbind(), strict=True):
            for member in members:
                _set_tensor_amax(member, shared.to(_tensor_amax(member).device))


def _tensor_amax(quantizer: TensorQuantizer) -> Tensor:
    amax = quantizer.amax if quantizer.format.outer is None else quantizer.outer_amax
    assert amax is not None, "a grouped slot without a per-tensor amax"
    return amax.reshape(())


def _set_tensor_amax(quantizer: TensorQuantizer, amax: Tensor) -> None:
    if quantizer.format.outer is None:
        quantizer.set_amax(amax.reshape(1, 1), None)
    else:
        quantizer.set_amax(quantizer.amax, amax)


MAX = AlgorithmSpec(
    "max",
    "the largest magnitude maps onto the largest code",
    MaxOptions,
    needs_data,
    run_max,
    wanted,
    cost="one run of the data; none where no activation has a fixed scale",
)
