"""Quantizers: a plan's quantizers on its converted model, by name, and states that pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn

from mtcore.nn import ExpertsQuantModule, QuantModule, TensorQuantizer
from mtcore.nn.sharded import whole
from mtcore.nn.spec import input_slot
from mtcore.nn.walk import modules_by_name
from mtcore.plan import Plan

Quantizers = Mapping[tuple[str, str], TensorQuantizer]
"""By (module name, slot)."""

WeightKey = tuple[str, str]
"""(module name, weight slot): the weight of a linear layer, or the matrix of one expert of a stack."""


class Converted(Protocol):
    """A model with its plan, as a `CalibrationRun` is one."""

    @property
    def plan(self) -> Plan: ...

    @property
    def modules(self) -> Mapping[str, nn.Module]: ...


def planned_quantizers(run: Converted) -> Iterator[tuple[tuple[str, str], TensorQuantizer]]:
    """((module name, slot), quantizer) for every slot of the plan."""
    for planned in run.plan.quantized:
        module = run.modules[planned.name]
        assert isinstance(module, QuantModule), f"{planned.name} was not converted"
        for slot, quantizer in module.quantizers():
            yield (planned.name, slot), quantizer


@contextmanager
def disabled(quantizers: Iterable[TensorQuantizer]) -> Iterator[None]:
    """The quantizers round nothing meanwhile; their states are put back, also after an error."""
    states = [(quantizer, quantizer.enabled) for quantizer in quantizers]
    try:
        for quantizer, _ in states:
            quantizer.disable()
        yield
    finally:
        for quantizer, enabled in states:
            (quantizer.enable if enabled else quantizer.disable)()


def linear_layers(model: nn.Module, quantizers: Quantizers) -> dict[str, QuantModule]:
    """The linear layers whose weight is quantized, by name, in the order of the plan."""
    found: dict[str, QuantModule] = {}
    modules = modules_by_name(model)
    for name, slot in quantizers:
        module = modules[name]
        if slot == "weight" and isinstance(module, nn.Linear):
            assert isinstance(module, QuantModule)
            found[name] = module
    return found


def expert_layers(model: nn.Module, quantizers: Quantizers) -> dict[WeightKey, ExpertsQuantModule]:
    """The stacks whose weights are quantized, by (module name, `<parameter>.<expert>`)."""
    modules = modules_by_name(model)
    found: dict[WeightKey, ExpertsQuantModule] = {}
    for (name, slot), quantizer in quantizers.items():
        module = modules[name]
        if quantizer.is_weight and isinstance(module, ExpertsQuantModule):
            found[name, slot] = module
    return found


def matrix_layers(model: nn.Module, quantizers: Quantizers) -> dict[WeightKey, QuantModule]:
    """The modules behind every quantized matrix, by weight quantizer: of linear layers, then of stacked experts."""
    linear = linear_layers(model, quantizers)
    found: dict[WeightKey, QuantModule] = {(name, "weight"): layer for name, layer in linear.items()}
    return found | expert_layers(model, quantizers)


def factor_site(key: WeightKey) -> tuple[str, str]:
    """Where statistics of what a matrix is multiplied with are found: the layer's input, or the expert's own."""
    return key if is_of_expert(key) else (key[0], "input")


def is_of_expert(key: tuple[str, str]) -> bool:
    """Whether a weight, or what it is multiplied with, is of one expert of a stack: ("experts", "down_proj.3")."""
    return "." in key[1]


def stack_of(key: tuple[str, str]) -> tuple[str, str]:
    """The parameter that holds a weight: (module name, parameter)."""
    return key[0], key[1].partition(".")[0]


def input_of(key: WeightKey) -> tuple[str, str]:
    """The slot of what a matrix is multiplied with: the layer's input, or the one that experts of a stack share."""
    parameter, _, expert = key[1].partition(".")
    return key[0], input_slot(parameter) if expert else "input"


def weight_place(model: nn.Module, key: WeightKey) -> tuple[nn.Parameter, int | None]:
    """The parameter behind a weight quantizer, and the number of its matrix in it where it is a stack."""
    parameter, _, expert = key[1].partition(".")
    return weight_of(model, (key[0], parameter)), int(expert) if expert else None


def weight_name(key: WeightKey) -> str:
    """How people are told of a weight: by its layer, or "experts.down_proj[3]"."""
    parameter, _, expert = key[1].partition(".")
    return f"{key[0]}.{parameter}[{expert}]" if expert else key[0]


def weight_of(model: nn.Module, key: WeightKey) -> nn.Parameter:
    """The parameter behind a weight quantizer."""
    parameter = model.get_submodule(key[0])._parameters[key[1]]
    assert parameter is not None, f"{'.'.join(key)} has no value"
    return parameter


def weight_tensor(model: nn.Module, key: WeightKey) -> Tensor:
    """The tensor behind a weight quantizer: a parameter, or one expert's part of a stacked one, as a view.

    A sharded parameter is gathered from all ranks.
    """
    module = model.get_submodule(key[0])
    assert isinstance(module, QuantModule), f"{key[0]} was not converted"
    return whole(module.weight_of(key[1]))
