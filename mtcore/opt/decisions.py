"""Decisions: the layers that must agree on a format, and what every choice among formats costs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import nn

from mtcore.nn import QuantModuleSpec
from mtcore.opt.cost import by_name, model_bits, own_bits, planned_weights, quantized_bits
from mtcore.plan import ModulePlan, Plan, fold_names, skeleton
from mtcore.plan.groups import lists_of, siblings
from mtcore.trace import SharedInputGroup, TraceReport

AS_IT_IS = "as it is"
"""The choice to leave layers unquantized, which every decision has."""


@dataclass(frozen=True)
class Decision:
    """Layers that get one choice together.

    Attributes:
        modules: their dotted names, in the order of the model.
        weights: elements of their weights that can be quantized.
        bits: by choice, what these weights take with their scales; `AS_IT_IS` comes first.
        refused: choices that are not to be had here, with the reason.
    """

    modules: tuple[str, ...]
    weights: int
    bits: Mapping[str, int]
    refused: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """All modules in one line, which no other decision of the model has: 'layers.0.attn.{q,k,v}'."""
        alike: dict[str, list[str]] = {}
        for module in self.modules:
            alike.setdefault(skeleton(module), []).append(module)
        folded = [fold_names(names) for names in alike.values()]
        if any("*" in name for name in folded):  # it does not say which numbers
            return f"{self.modules[0]} and {len(self.modules) - 1} more"
        return folded[0] if len(folded) == 1 else SharedInputGroup.of(folded).name

    @property
    def sites(self) -> tuple[str, ...]:
        """The modules whose outputs show what a choice costs: those that lie in no other of the decision."""
        known = set(self.modules)
        return tuple(name for name in self.modules if known.isdisjoint(_around(name)))

    def bits_per_weight(self, choice: str) -> float:
        return self.bits[choice] / self.weights


def find_decisions(
    model: nn.Module, plans: Mapping[str, Plan], specs: Mapping[str, QuantModuleSpec], trace: TraceReport
) -> tuple[Decision, ...]:
    """The decisions between some plans for a model, in the order of its modules.

    One choice goes for modules that read the same value and stand side by side in one module (a server fuses q, k
    and v; gate and up), for all experts of a router, and for a module and what it holds. A plan is a choice where
    it quantizes the weights of all of them and finds no error in any.

    Args:
        model: as the plans were made for it; parameters may be on the meta device.
        plans: by the name of the choice.
    """
    planned = {choice: by_name(plan) for choice, plan in plans.items()}
    weights: dict[str, list[str]] = {}  # of every module that some plan quantizes, its parameters
    for name, _ in model.named_modules():
        of_choice = [planned_weights(modules[name], specs) for modules in planned.values() if name in modules]
        found = list(dict.fromkeys(parameter for slots in of_choice for parameter in slots))
        if found:
            weights[name] = found
    made = []
    for modules in _joined(list(weights), _together(model, list(weights), trace)):
        places = [(name, parameter) for name in modules for parameter in weights[name]]
        elements = sum(model.get_submodule(name).get_parameter(p).numel() for name, p in places)
        bits = {AS_IT_IS: sum(own_bits(model.get_submodule(name), p) for name, p in places)}
        refused = {}
        for choice, plan in plans.items():
            why = _refusal(plan, planned[choice], places, specs)
            if why:
                refused[choice] = why
            else:
                coded = sum(_bits(model, planned[choice][name], p, specs) for name, p in places)
                bits[choice] = coded + 8 * sum(planned[choice][name].branch_bytes for name in modules)
        made.append(Decision(tuple(modules), elements, bits, refused))
    return tuple(made)


def rest_bits(model: nn.Module, decisions: Sequence[Decision]) -> int:
    """Bits of all in a model, as it is, that no decision is about."""
    return model_bits(model) - sum(decision.bits[AS_IT_IS] for decision in decisions)


def _bits(model: nn.Module, planned: ModulePlan, parameter: str, specs: Mapping[str, QuantModuleSpec]) -> int:
    slot = planned.slot(parameter)
    assert slot is not None, "a choice that does not quantize this weight was not refused"
    view = planned_weights(planned, specs)[parameter]
    return quantized_bits(model.get_submodule(planned.name), view, slot.format)


def _refusal(
    plan: Plan,
    planned: Mapping[str, ModulePlan],
    places: Sequence[tuple[str, str]],
    specs: Mapping[str, QuantModuleSpec],
) -> str:
    """Why a plan is no choice for these weights; empty where it is one."""
    errors = {finding.where: finding.message for finding in plan.errors}
    for name, parameter in places:
        if name in errors:
            return f"{name} {errors[name]}"
        if name not in planned or parameter not in planned_weights(planned[name], specs):
            return f"{name}: {planned[name].reason}" if name in planned else f"{name} is not in the plan"
    return ""


def _together(model: nn.Module, names: Sequence[str], trace: TraceReport) -> Iterator[Sequence[str]]:
    """Names that belong to one decision; sets may overlap."""
    lists, known = lists_of(model), set(names)
    for reader in trace.shared_inputs:
        present = [name for name in reader.modules if name in known]
        yield from siblings(present, lists)
    for router in trace.routers:
        if router.experts in lists:
            yield [name for name in names if name.startswith(f"{router.experts}.")]
    for name in names:
        yield [name, *(other for other in _around(name) if other in known)]


def _joined(names: Sequence[str], together: Iterator[Sequence[str]]) -> list[list[str]]:
    """The names parted into sets, in order: two are in one where a chain of overlapping sets leads to the other."""
    leader = {name: name for name in names}

    def led_by(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]  # halves the way for the next who asks
        return name

    for members in together:
        for other in members[1:]:
            leader[led_by(other)] = led_by(members[0])
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(led_by(name), []).append(name)
    return list(parts.values())


def _around(name: str) -> Iterator[str]:
    """The names of the modules around one, innermost first, the model itself last."""
    while name:
        name = name.rpartition(".")[0]
        yield name
