"""Tensors made from nothing: zeros agree with every scale, everything else is a constant."""

from __future__ import annotations

from torch import Tensor

from mtcore.trace.planes import NOTHING, Shadow, zeros
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules, aten

ZEROS = aten(
    "zeros zeros_like new_zeros zero empty empty_like new_empty empty_strided new_empty_strided empty_permuted"
)
CONSTANTS = aten(
    "ones ones_like new_ones arange linspace eye rand randn rand_like randn_like randint randint_like "
    "randperm scalar_tensor tril_indices triu_indices bernoulli normal uniform exponential logspace "
    "one_hot hann_window multinomial random"
)
FILLS = ["aten::full", "aten::full_like", "aten::new_full", "aten::fill"]


def register(rules: OpRules) -> None:
    rules.add(ZEROS, made_of_zeros, makes_labels=True)
    rules.add(CONSTANTS, constant)
    rules.add(FILLS, filled, makes_labels=True)


def made_of_zeros(context: RuleContext, call: Call) -> Shadow:
    """Uninitialised memory counts as zeros: it must be written before it means anything."""
    return zeros(call.outs[0].shape)


def constant(context: RuleContext, call: Call) -> Shadow:
    return NOTHING


def filled(context: RuleContext, call: Call) -> Shadow:
    value = call.arg(1, "fill_value", call.kwargs.get("value"))
    if call.name == "aten::new_full":
        value = call.args[2]
    zero = not isinstance(value, Tensor) and value == 0
    return zeros(call.outs[0].shape) if zero else NOTHING
