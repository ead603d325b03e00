"""Carried scales: inputs that no fold reaches keep their channel scales on the layer, if the target can."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mtcore.calibration.folding import ScaledInput, fold_inputs, scaled_inputs
from mtcore.calibration.matrices import Columns, linear_columns, planned_columns, stacks_of
from mtcore.calibration.quantizers import Quantizers, WeightKey, factor_site, weight_tensor
from mtcore.calibration.spec import CalibrationRun
from mtcore.calibration.statistics import Site, TensorStatistics
from mtcore.nn import QuantizerState, QuantModule
from mtcore.plan import Finding, Holds, Plan
from mtcore.trace import FoldGroup, Slices


def with_carried_scales(plan: Plan, method: str, holds: Holds) -> Plan:
    """The plan of a step that scales what matrices are multiplied with: which linear layers keep their scales.

    Inputs that a fold reaches are folded. Of the others, a layer keeps its scales where the target can hold them,
    and else stays unscaled, as stacked experts do; all is said, by layer and counted.
    """
    linear = {module.name: module for module in plan.quantized if linear_columns(module)}
    folded = {key for where in scaled_inputs(plan.folds, planned_columns(plan)) for key in where.consumers}
    left = [name for name in linear if (name, "weight") not in folded]
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
    return replace(
        plan, modules=modules, findings=(*plan.findings, *findings, *_unscaled_stacks(plan, method, folded))
    )


def _unscaled_stacks(plan: Plan, method: str, folded: Container[WeightKey]) -> Iterator[Finding]:
    """Stacked experts that no fold reaches, and what else there is for them."""
    stacks = {
        f"{module.name}.{parameter}".lstrip("."): matrices
        for module in plan.quantized
        for parameter, matrices in stacks_of(module).items()
    }
    missed = {name: sum(key not in folded for key in matrices) for name, matrices in stacks.items()}
    unscaled = [name for name, count in missed.items() if count]
    if unscaled:
        parts = [f"{name}: {missed[name]} of {len(stacks[name])} experts" for name in unscaled[:3]]
        more = f", and {len(unscaled) - 3} more" if len(unscaled) > 3 else ""
        yield Finding(
            "warning",
            method,
            f"{len(unscaled)} of {len(stacks)} stacks of experts stay unscaled ({', '.join(parts)}{more}): "
            f"no {'proved ' if plan.folds_proven else ''}fold reaches their inputs, and stacks keep no "
            "pre_quant_scale; gptq, or awq with variant: clip, improves them without",
        )


def inputs_to_scale(run: CalibrationRun, layers: Mapping[WeightKey, QuantModule]) -> Iterator[ScaledInput]:
    """What can be scaled of what matrices are multiplied with: through folds, and of layers that keep their scales.

    Layers that read one value and keep their scales get the same ones.
    """
    columns = _columns(run, layers)
    yield from scaled_inputs(run.plan.folds, columns)
    keeping = {module.name: (module.name, "weight") for module in run.plan.quantized if module.pre_quant_scale}
    waiting = {name: columns[key].count for name, key in keeping.items() if key in columns}
    groups = [[name for name in group.modules if name in waiting] for group in run.plan.shared_inputs]
    for names in (*groups, *([name] for name in waiting)):
        together = {name: waiting.pop(name) for name in names if name in waiting}
        if together:
            yield _carried(together)


def sites_to_scale(run: CalibrationRun, layers: Mapping[WeightKey, QuantModule]) -> list[Site]:
    """Where statistics for `inputs_to_scale` are found: all linear layers, and experts that a fold reaches."""
    reached = {key for where in scaled_inputs(run.plan.folds, _columns(run, layers)) for key in where.consumers}
    return [factor_site(key) for key, layer in layers.items() if isinstance(layer, nn.Linear) or key in reached]


def factors_of(
    run: CalibrationRun, where: ScaledInput, quantizers: Quantizers
) -> tuple[dict[WeightKey, TensorStatistics], dict[WeightKey, Tensor]]:
    """What is known of what each matrix of an input to scale is multiplied with, and the matrices [rows, cols]."""
    inputs = {key: run.statistics[factor_site(key)] for key in where.consumers}
    matrices = {key: quantizers[key].view.to_matrix(weight_tensor(run.model, key).detach()) for key in inputs}
    return inputs, matrices


def scale_inputs(run: CalibrationRun, where: ScaledInput, scales: Tensor) -> None:
    """Divide the consumers' inputs by `scales`, fp32 [channels], without changing the model's outputs."""
    fold_inputs(run, where, scales)
    for (name, _), by in where.by_consumer(scales).items() if where.carried else ():
        layer = run.model.get_submodule(name)
        assert isinstance(layer, QuantModule)
        state = layer.get_submodule(layer.slots["input"])
        assert isinstance(state, QuantizerState), (
            f"{name}: planned to keep scales, but its input has no place for them"
        )
        before = state.pre_quant_scale
        factor = 1.0 / by.float()
        state.set_pre_quant_scale(factor if before is None else before * factor)


def _columns(run: CalibrationRun, layers: Mapping[WeightKey, QuantModule]) -> dict[WeightKey, Columns]:
    """Where the matrices have theirs; a class of linear layers that is not the plan's own is asked itself."""
    known = planned_columns(run.plan)
    return {key: known.get(key) or Columns(layer.get_parameter("weight").shape[1]) for key, layer in layers.items()}


def _carried(columns: Mapping[str, int]) -> ScaledInput:
    """A fold whose other side is the layers' own scales."""
    size = next(iter(columns.values()))
    every = tuple(range(size))
    down = tuple(Slices(f"{name}.weight" if name else "weight", (1,), every, every) for name in columns)
    group = FoldGroup(f"pre_quant_scale → {' + '.join(side.parameter for side in down)}", size, (), down)
    consumers = {(name, "weight"): torch.arange(size) for name in columns}
    return ScaledInput(group, consumers, columns_divided=True, carried=True)
