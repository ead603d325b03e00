"""A loaded model with float weights becomes a quantized one again, with formats and magnitudes of the file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtcore.errors import ModelError
from mtcore.nn import QuantModule, TensorQuantizer, input_slot, match_spec
from mtcore.plan import Coverage, ModulePlan, Plan, SlotPlan
from mtcore.plugins import default_registry
from mtcore.quantization import apply_plan
from mtopt_hf.quantizer.decode import Coded

RULE = "the checkpoint"


def restore(model: nn.Module, coded: Mapping[str, Coded]) -> nn.Module:
    """Put quantizers around every weight that came from codes; they round it to those very codes again.

    The model can be trained, exported and undone like one that `mtcore.quantize` made.

    Raises:
        ModelError: a module with codes is of a kind that mtcore has no quantized form for.
    """
    apply_plan(model, plan_of(model, coded))
    for name, found in coded.items():
        owner, _, parameter = name.rpartition(".")
        module = model.get_submodule(owner)
        assert isinstance(module, QuantModule)
        for slot, quantizer in module.quantizers():
            weight, _, expert = slot.partition(".")
            if weight == parameter:
                index = int(expert or 0)
                quantizer.set_amax(found.amax[index], found.outer_amax[index])
            elif found.input_amax is not None and slot in ("input", input_slot(parameter)):
                _set_input(quantizer, found.input_amax)
    return model


def plan_of(model: nn.Module, coded: Mapping[str, Coded]) -> Plan:
    """What was done to the modules of a checkpoint, in the terms of mtcore."""
    by_module: dict[str, dict[str, Coded]] = {}
    for name, found in coded.items():
        owner, _, parameter = name.rpartition(".")
        by_module.setdefault(owner, {})[parameter] = found
    modules, total, quantized = [], 0, 0
    for name, module in model.named_modules():
        shapes = {p: tuple(v.shape) for p, v in module._parameters.items() if v is not None}
        if not shapes:
            continue
        found_here = by_module.get(name, {})
        modules.append(_module(name, module, shapes, found_here))
        sizes = {p: torch.Size(shape).numel() for p, shape in shapes.items() if len(shape) > 1}
        total += sum(sizes.values())
        quantized += sum(size for p, size in sizes.items() if p in found_here)
    return Plan(RULE, tuple(modules), (), (), (), Coverage(total, quantized, 0))


def _module(
    name: str, module: nn.Module, shapes: Mapping[str, tuple[int, ...]], coded: Mapping[str, Coded]
) -> ModulePlan:
    kind, listed = type(module).__name__, tuple(shapes.items())
    if not coded:
        return ModulePlan(name, kind, None, listed, (), "it has no codes in the checkpoint", by_rule=True)
    specs = default_registry().quant_modules
    spec, facts = match_spec(module, specs.values()).spec, {}
    if spec is None and all(len(shapes[p]) == 3 for p in coded):
        spec = next(s for s in specs.values() if s.found_by == "stacked")
        facts = {p: (found.channel_axis,) for p, found in coded.items()}
    if spec is None:
        raise ModelError(f"{name}: the checkpoint has codes for it, but mtcore has no quantized form of {kind}")
    slots = []
    for parameter, found in coded.items():
        slots.append(SlotPlan(parameter, found.group.weight, "static", RULE))
        if found.group.input is not None:
            fmt, mode = found.group.input
            slots.append(SlotPlan("input" if not facts else input_slot(parameter), fmt, mode, RULE))
    return ModulePlan(name, kind, spec.name, listed, tuple(slots), RULE, True, tuple(facts.items()))


def _set_input(quantizer: TensorQuantizer, amax: Tensor) -> None:
    if quantizer.format.outer is None:
        quantizer.set_amax(amax.reshape(1, 1), None)
    else:
        quantizer.set_amax(None, amax)
