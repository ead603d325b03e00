"""Tensors made from nothing: zeros agree with every scale, everything else is a constant."""

from __future__ import annotations

from torch import Tensor

from mtcore.trace.planes import NOTHING, Shadow, zeros
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules

ZEROS = (
    "aten::zeros aten::zeros_like aten::new_zeros aten::zero aten::empty aten::empty_like aten::new_empty "
    "aten::empty_strided aten::new_empty_strided aten::empty_permuted"
).split()
CONSTANTS = (
    "aten::ones aten::ones_like aten::new_ones aten::arange aten::linspace aten::eye aten::rand aten::randn "
    "aten::rand_like aten::randn_like aten::randint aten::randint_like aten::randperm aten::scalar_tensor "
    "aten::tril_indices aten::triu_indices aten::bernoulli aten::normal aten::uniform aten::exponential "
    "aten::logspace aten::one_hot aten::hann_window aten::multinomial aten::random"
).split()
FILLS = "aten::full aten::full_like aten::new_full aten::fill".split()


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
