"""The one place that changes a model: planned modules are replaced by quantized twins, all or none."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import torch
from torch import nn

from mtcore.errors import PlanError
from mtcore.nn import (
    ChannelScale,
    DerivedQuantModule,
    LowRankLinear,
    MatrixView,
    QuantModule,
    QuantModuleSpec,
    StackedQuantizer,
    TensorQuantizer,
    WeightSlot,
)
from mtcore.nn.sharded import is_sharded
from mtcore.nn.walk import modules_by_name, modules_of
from mtcore.nn.wrapped import is_offloaded
from mtcore.plan import ModulePlan, Plan, SlotPlan
from mtcore.quantization.fast_paths import close_fast_paths
from mtcore.quantization.journal import Journal


def convert(model: nn.Module, plan: Plan, specs: Mapping[str, QuantModuleSpec]) -> tuple[nn.Module, Journal]:
    """Replace every module that the plan quantizes.

    Args:
        model: changed in place; a root that is itself planned cannot be, and its twin is returned instead. A module
            with sharded parameters stays the same object and becomes one of its twin's class.
        plan: made for this model, also before it was sharded.
        specs: quantized layers by name.

    Returns:
        The converted model (the same object, but for a planned root) and the journal that undoes it.

    Raises:
        PlanError: the plan does not fit the model. Nothing is changed.
        Exception: whatever a layer's construction raises, after everything was put back.
    """
    modules = modules_by_name(model)
    _check_fit(modules, plan, specs)
    parents = _parents(model)
    journal = Journal()
    root = model
    try:
        for module_plan in sorted(plan.quantized, key=_depth, reverse=True):  # a twin takes its children over
            original = modules[module_plan.name]
            assert module_plan.spec is not None, "a quantized module without a spec"
            twin = _twin(original, module_plan, specs[module_plan.spec], model)
            if any(is_sharded(parameter) for parameter in original.parameters(recurse=False)):
                journal.switch(original, twin)  # FSDP puts the gathered weights into this very module
                continue
            if original is model:
                root = twin
            for parent, attribute in parents.get(id(original), ()):
                journal.replace(parent, attribute, twin)
        close_fast_paths(root, journal)
    except BaseException:
        journal.undo()
        raise
    return root, journal


def _check_fit(modules: Mapping[str, nn.Module], plan: Plan, specs: Mapping[str, QuantModuleSpec]) -> None:
    problems, offloaded = [], []
    for planned in plan.quantized:
        module = modules.get(planned.name)
        if module is None:
            problems.append(f"{planned.name}: the plan quantizes it, but the model has no such module")
        elif type(module).__name__ != planned.type:
            problems.append(f"{planned.name}: planned as a {planned.type}, but it is a {type(module).__name__}")
        elif is_offloaded(module):
            offloaded.append(planned.name)
        elif planned.spec not in specs:
            problems.append(f"{planned.name}: planned with {planned.spec!r}, which no plugin provides here")
    if offloaded:
        more = f" and {len(offloaded) - 1} more" if len(offloaded) > 1 else ""
        problems.append(
            f"{offloaded[0]}{more}: the weights are offloaded, and have no values here to round; load the model "
            "with a device_map that has room for all of it, or quantize the checkpoint block by block (--layerwise)"
        )
    if problems:
        raise PlanError(problems)


def _twin(original: nn.Module, planned: ModulePlan, spec: QuantModuleSpec, model: nn.Module) -> QuantModule:
    facts = dict(planned.facts)
    weights = {weight.parameter: weight for weight in spec.weights_of(_own(original), facts)}
    quantizers: dict[str, nn.Module] = {}
    for slot in (*weights, *spec.activations_of(facts)):
        decided = planned.slot(slot)
        if decided is None:
            quantizers[slot] = nn.Identity()
            continue
        quantizer = _quantizer(original, decided, spec, weights.get(slot), model)
        quantizers[slot] = quantizer.train(original.training)
    if planned.pre_quant_scale and isinstance(quantizers["input"], nn.Identity):
        quantizers["input"] = ChannelScale().train(original.training)
    assert issubclass(spec.quantized, QuantModule), f"{spec.name}: {spec.quantized} is no QuantModule"
    if planned.low_rank:
        branched = spec.low_rank
        assert branched is not None, f"{spec.name}: planned with a low-rank branch, but has no such form"
        assert issubclass(branched, LowRankLinear), f"{spec.name}: {branched} is no LowRankLinear"
        layer = branched.from_original(original, quantizers)
        assert isinstance(layer, LowRankLinear)
        layer.add_branch(planned.low_rank)
        return layer
    twin = spec.quantized.from_original(original, quantizers)
    if facts:
        assert isinstance(twin, DerivedQuantModule), f"{spec.name}: {spec.quantized} takes no facts"
        twin.facts = facts
    return twin


def _quantizer(
    original: nn.Module,
    decided: SlotPlan,
    spec: QuantModuleSpec,
    weight: WeightSlot | None,
    model: nn.Module,
) -> nn.Module:
    if weight is not None and weight.stacked:
        parameter = original._parameters[weight.parameter]
        assert parameter is not None
        return StackedQuantizer(
            decided.format, decided.mode, experts=len(parameter), channel_axis=weight.channel_axis - 1
        )
    view: MatrixView = spec.activation_view if weight is None else weight.view(original)
    quantizer = TensorQuantizer(decided.format, decided.mode, view=view, constant_amax=decided.amax)
    return quantizer if decided.amax is None else quantizer.to(_device(original, model))


def _device(module: nn.Module, model: nn.Module) -> torch.device:
    """Where a constant of the module goes: to its parameters, else the model's; the CPU where none has values."""
    parameters = chain(module.parameters(), model.parameters())
    return next((p.device for p in parameters if not p.is_meta), torch.device("cpu"))


def _depth(planned: ModulePlan) -> int:
    return planned.name.count(".") + 1 if planned.name else 0


def _own(module: nn.Module) -> list[str]:
    return [name for name, parameter in module._parameters.items() if parameter is not None]


def _parents(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Where every module hangs: several places for a shared one."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for parent in modules_of(model):
        for attribute, child in parent._modules.items():
            places.setdefault(id(child), []).append((parent, attribute))
    return places
