"""Carried scales: inputs that no fold reaches keep their channel scales on the layer, if the target can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mtcore.calibration.folding import ScaledInput, fold_inputs, scaled_inputs
from mtcore.calibration.spec import CalibrationRun
from mtcore.nn import QuantizerState, QuantModule
from mtcore.plan import Finding, Holds, ModulePlan, Plan
from mtcore.trace import FoldGroup, Slices


def with_carried_scales(plan: Plan, method: str, holds: Holds) -> Plan:
    """The plan of a step that scales the inputs of linear layers: which of them keep their scales on the layer.

    Inputs that a fold reaches are folded. Of the others, a layer keeps its scales where the target can hold them,
    and else stays unscaled; both are said, by layer and counted.
    """
    linear = {module.name: module for module in plan.quantized if _is_linear(module)}
    columns = {name: dict(module.shapes)["weight"][1] for name, module in linear.items()}
    folded = {name for where in scaled_inputs(plan.folds, columns) for name in where.consumers}
    left = [name for name in linear if name not in folded]
    carried = {name for name in left if holds(linear[name], "pre_quant_scale")}
    unscaled = [name for name in left if name not in carried]
    why = "no proved fold reaches its input" if plan.folds_proven else "no fold reaches its input"
    kept = [name for name in left if name in carried]
    findings = [Finding("note", name, f"keeps the scales of {method} as pre_quant_scale: {why}") for name in kept]
    findings += [
        Finding("note", name, f"is not scaled by {method}: {why}, and the target holds no pre_quant_scale")
        for name in unscaled
    ]
    if unscaled:
        more = f" and {len(unscaled) - 1} more" if len(unscaled) > 1 else ""
        findings.append(
            Finding(
                "warning",
                method,
                f"{len(unscaled)} of {len(linear)} linear layers stay unscaled ({unscaled[0]}{more}): no fold "
                "reaches their inputs, and the target holds no pre_quant_scale",
            )
        )
    modules = tuple(
        replace(module, pre_quant_scale=True) if module.name in carried else module for module in plan.modules
    )
    return replace(plan, modules=modules, findings=(*plan.findings, *findings))


def inputs_to_scale(run: CalibrationRun, layers: Mapping[str, QuantModule]) -> Iterator[ScaledInput]:
    """The inputs of linear layers that can be scaled: through folds, and of layers that keep their scales.

    Layers that read one value and keep their scales get the same ones.
    """
    columns = {name: layer.get_parameter("weight").shape[1] for name, layer in layers.items()}
    yield from scaled_inputs(run.plan.folds, columns)
    waiting = {m.name: columns[m.name] for m in run.plan.quantized if m.pre_quant_scale and m.name in columns}
    groups = [[name for name in group.modules if name in waiting] for group in run.plan.shared_inputs]
    for names in (*groups, *([name] for name in waiting)):
        together = {name: waiting.pop(name) for name in names if name in waiting}
        if together:
            yield _carried(together)


def scale_inputs(run: CalibrationRun, where: ScaledInput, scales: Tensor) -> None:
    """Divide the consumers' inputs by `scales`, fp32 [channels], without changing the model's outputs."""
    fold_inputs(run, where, scales)
    for name, by in where.by_consumer(scales).items() if where.carried else ():
        layer = run.model.get_submodule(name)
        assert isinstance(layer, QuantModule)
        state = layer.get_submodule(layer.slots["input"])
        assert isinstance(state, QuantizerState), (
            f"{name}: planned to keep scales, but its input has no place for them"
        )
        before = state.pre_quant_scale
        factor = 1.0 / by.float()
        state.set_pre_quant_scale(factor if before is None else before * factor)


def _carried(columns: Mapping[str, int]) -> ScaledInput:
    """A fold whose other side is the layers' own scales."""
    size = next(iter(columns.values()))
    every = tuple(range(size))
    down = tuple(Slices(f"{name}.weight" if name else "weight", (1,), every, every) for name in columns)
    group = FoldGroup(f"pre_quant_scale → {' + '.join(side.parameter for side in down)}", size, (), down)
    return ScaledInput(group, {name: torch.arange(size) for name in columns}, columns_divided=True, carried=True)


def _is_linear(module: ModulePlan) -> bool:
    return module.spec == "nn.Linear" and module.slot("weight") is not None
