"""What a plan quantizes, as dialects see it: pairs of a weight and its input."""

from __future__ import annotations

from dataclasses import dataclass

from mtcore.nn import input_slot
from mtcore.plan import ModulePlan, SlotPlan

LINEAR, STACKED = "nn.Linear", "experts"
"""Kinds of modules, by their records, that a checkpoint has a place for."""


@dataclass(frozen=True)
class Pair:
    """A weight matrix (of every expert, where there are several) and what it is multiplied with.

    Attributes:
        module: whose they are.
        parameter: "weight", or the name of a parameter that stacks one matrix an expert.
        weight, input: their slots; None where not quantized. At least one is.
        rows, cols: of the matrix (of one expert): output and input features.
        experts: how many matrices are stacked; None for a plain one.
        transposed: whether the parameter holds the matrix with its output features last.
    """

    module: ModulePlan
    parameter: str
    weight: SlotPlan | None
    input: SlotPlan | None
    rows: int
    cols: int
    experts: int | None = None
    transposed: bool = False

    @property
    def input_key(self) -> str:
        """The slot of the input."""
        return "input" if self.experts is None else input_slot(self.parameter)


def pairs_of(module: ModulePlan) -> tuple[Pair, ...]:
    """The pairs of a quantized module; none of a module that holds no linear weights."""
    shapes = dict(module.shapes)
    if module.spec == LINEAR:
        rows, cols = shapes["weight"]
        return (Pair(module, "weight", module.slot("weight"), module.slot("input"), rows, cols),)
    if module.spec != STACKED:
        return ()
    pairs = []
    for parameter, (axis,) in module.facts:
        weight, given = module.slot(parameter), module.slot(input_slot(parameter))
        if weight is not None or given is not None:
            shape = shapes[parameter]
            rows, cols = shape[axis], shape[3 - axis]
            pairs.append(Pair(module, parameter, weight, given, rows, cols, shape[0], axis == 2))
    return tuple(pairs)
