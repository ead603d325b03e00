"""What weights take: codes and scales of a planned format, or the values as they are; in bits, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from torch import nn

from mtcore.formats import TensorFormat
from mtcore.nn import QuantModuleSpec, WeightSlot
from mtcore.plan import ModulePlan, Plan


def planned_weights(planned: ModulePlan, specs: Mapping[str, QuantModuleSpec]) -> dict[str, WeightSlot]:
    """The parameters of a module that its plan quantizes as weights, and how each is seen as matrices."""
    if planned.spec is None:
        return {}
    slots = specs[planned.spec].weights_of(dict(planned.shapes), dict(planned.facts))
    return {slot.parameter: slot for slot in slots if planned.slot(slot.parameter) is not None}


def quantized_bits(module: nn.Module, slot: WeightSlot, fmt: TensorFormat) -> int:
    """Bits of a weight of this module in a format, all experts of a stack together."""
    shape = tuple(module.get_parameter(slot.parameter).shape)
    matrices = shape[0] if slot.stacked else 1
    cols = slot.cols(shape, int(module.groups) if slot.grouped else 1)  # type: ignore[arg-type]
    return matrices * fmt.stored_bits(prod(shape) // (matrices * cols), cols)


def own_bits(module: nn.Module, parameter: str) -> int:
    """Bits of a parameter as it is."""
    value = module.get_parameter(parameter)
    return value.numel() * value.element_size() * 8


def model_bits(model: nn.Module) -> int:
    """Bits of all parameters and kept buffers of a model as it is, each once."""
    distinct = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    return sum(tensor.numel() * tensor.element_size() * 8 for tensor in distinct.values())


def by_name(plan: Plan) -> dict[str, ModulePlan]:
    """The modules of a plan by name."""
    return {module.name: module for module in plan.modules}
