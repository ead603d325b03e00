"""The `svdquant` algorithm: the strongest directions of a weight stay in 16 bits, and the rest is rounded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from mtcore.calibration.algorithms import max as max_algorithm
from mtcore.calibration.algorithms.max import MaxOptions, run_max, set_weights
from mtcore.calibration.math import low_rank_split
from mtcore.calibration.quantizers import linear_layers, planned_quantizers, weight_of
from mtcore.calibration.scales import refuse_transformed
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import Needs, Site, joined
from mtcore.errors import CalibrationError
from mtcore.nn import LowRankLinear, branch_dtype
from mtcore.plan import Finding, Holds, ModulePlan, Plan

LOG = logging.getLogger(__name__)


class SvdQuantOptions(BaseModel):
    """Options of `svdquant`.

    rank: of the branch; it costs 16 bits for each of rank · (rows + columns) elements.
    strong: directions that are strong in the weight itself, as published; or in the layer's "outputs" on the data,
        for which Σ x xᵀ of the inputs is gathered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(32, ge=1)
    strong: Literal["weights", "outputs"] = "weights"


def needs_data(plan: Plan) -> bool:
    """As `max`: the scales of the activations. With `strong: outputs`, asking for the statistics says so."""
    return max_algorithm.needs_data(plan)


def planned(plan: Plan, options: SvdQuantOptions, holds: Holds) -> Plan:
    """Which layers get a branch: all linear ones for which it is smaller than the quantized weight.

    Whether the target can hold branches is asked before the run, as of every plan; svdquant has no other form.
    """
    modules, findings = [], []
    for module in plan.modules:
        if module.spec != "nn.Linear" or module.slot("weight") is None:
            modules.append(module)
            if module.quantized and any(slot.slot in dict(module.shapes) for slot in module.slots):
                findings.append(Finding("note", module.name, "gets no branch: only nn.Linear has a form with one"))
            continue
        branched = replace(module, low_rank=options.rank)
        size = _weight_bytes(module)
        if branched.branch_bytes < size:
            modules.append(branched)
            continue
        modules.append(module)
        findings.append(
            Finding(
                "note",
                module.name,
                f"gets no branch: with rank {options.rank} it would take {branched.branch_bytes} bytes, the "
                f"quantized weight {size}",
            )
        )
    if not any(module.low_rank for module in modules):
        message = f"no linear layer is large enough for a branch of rank {options.rank}; choose a smaller rank"
        findings.append(Finding("warning", "svdquant", message))
    return replace(plan, modules=tuple(modules), findings=(*plan.findings, *findings))


def wanted(run: CalibrationRun, options: SvdQuantOptions) -> dict[Site, Needs]:
    """The products of what the split layers read, where their outputs count; and what `max` wants."""
    layers = _branched(run) if options.strong == "outputs" else ()
    needs = {(name, "input"): Needs(gram=True) for name, _ in layers}
    return joined((needs, max_algorithm.wanted(run, MaxOptions())))


def run_svdquant(run: CalibrationRun, options: SvdQuantOptions) -> None:
    """Split the weight of every layer that was planned with a branch, then set every amax as `max` does; after an
    earlier step those of weights alone.

    Li et al. 2024, "SVDQuant" (arXiv:2411.05007): W = rest + B A, where only the rest is rounded. The branch is
    rounded to 16 bits first and the rest taken from that, so that together they are W in any case.

    Raises:
        CalibrationError: the plan knew nothing of this step, and so of no branch; a weight is transformed before it
            is rounded, or not finite; or as `max`.
    """
    layers = dict(_branched(run))
    if not layers and not any(step.method == "svdquant" for step in run.plan.algorithm):
        raise CalibrationError(
            "svdquant: no layer of this model was planned with a low-rank branch; quantize it with svdquant among "
            "the steps of its recipe"
        )
    quantizers = dict(planned_quantizers(run))
    refuse_transformed({key: q for key, q in quantizers.items() if key[0] in layers}, "svdquant")
    run.statistics.need(wanted(run, options))
    for name, layer in layers.items():
        weight = layer.weight.detach().float()
        if not bool(weight.isfinite().all()):
            raise CalibrationError(f"{name}: the weight holds NaN or infinite values; it cannot be split")
        hessian = run.statistics[name, "input"].gram if options.strong == "outputs" else None
        split = low_rank_split(weight, len(layer.lora_a), hessian)
        dtype = branch_dtype(layer.weight.dtype)
        down, up = (part.to(dtype).float().contiguous() for part in (split.down, split.up))
        rest = weight - up @ down
        share = float(rest.norm() / weight.norm().clamp(min=torch.finfo(torch.float32).tiny))
        LOG.info("svdquant: %s: %.1f%% of the weight's norm is left", name, 100 * share)
        run.edits.set(layer.lora_a, down)
        run.edits.set(layer.lora_b, up)
        run.edits.set(weight_of(run.model, (name, "weight")), rest)
    if run.first:
        run_max(run, MaxOptions())
    else:
        set_weights(run, quantizers)


def _branched(run: CalibrationRun) -> Iterator[tuple[str, LowRankLinear]]:
    for name, layer in linear_layers(run.model, dict(planned_quantizers(run))).items():
        if isinstance(layer, LowRankLinear):
            yield name, layer


def _weight_bytes(module: ModulePlan) -> int:
    """What the quantized weight takes."""
    slot = module.slot("weight")
    assert slot is not None
    rows, cols = dict(module.shapes)["weight"]
    return int(rows * cols * slot.format.bits_per_element / 8)


SVDQUANT = AlgorithmSpec(
    "svdquant",
    "keep the strongest directions of each weight in 16 bits beside it",
    SvdQuantOptions,
    needs_data,
    run_svdquant,
    wanted,
    plan=planned,
    cost="one run of the data, and a singular value decomposition of every weight; the branch costs size and time",
    linear_only=True,
)
