"""Blocks and shapes: weights that a format's blocks do not divide."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from mtcore.nn import QuantModuleSpec
from mtcore.plan.fold import leave_out
from mtcore.plan.plan import Finding, ModulePlan


def shape_findings(planned: ModulePlan, module: nn.Module, spec: QuantModuleSpec) -> Iterable[Finding]:
    """Blocks that do not divide the weight: no client can read the result."""
    shapes = dict(planned.shapes)
    for weight in spec.weights_of(shapes, dict(planned.facts)):
        slot = planned.slot(weight.parameter)
        if slot is None:
            continue
        cols = weight.cols(shapes[weight.parameter], 1 if weight.stacked else weight.view(module).groups)
        wide = slot.format.block.cols
        if wide > 1 and cols % wide:
            yield Finding(
                "error",
                planned.name,
                f"{cols} input features are not a multiple of block {wide} "
                f"(format {slot.format.name}, {slot.rule}); {leave_out([planned.name])}",
            )
