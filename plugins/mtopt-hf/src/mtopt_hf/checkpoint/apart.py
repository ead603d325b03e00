"""Experts that the hub keeps in one tensor, taken apart: a matrix each, under the names that servers know."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mtopt_hf.checkpoint.pairs import Pair
from mtopt_hf.checkpoint.stacks import Piece

GATED, LAST = "gate_up_proj", "down_proj"
HALVES = ("gate_proj", "up_proj")

Gate = Callable[[Tensor], Tensor]
"""From the output of the first product [1, 2F], gates and ups, to the input of the second one [1, F]."""

_UNITS = 4
_FAR, _NOTHING = -64.0, 1e-6
"""A very negative number, of which a sigmoid leaves 1e-28 and a slower one (of x / 4) 1e-7; and what is nothing."""


def taken_apart(experts: nn.Module, prefix: str, pair: Pair) -> tuple[Piece, ...] | str:
    """One matrix for each expert and half, or why no client could use them.

    Args:
        experts: the module that holds the stack, without storage.
        prefix: name of that module in the file.
        pair: the stack.

    The names are those of vLLM's loader of experts, and of other tools that write for it: `gate_proj` is the half
    that goes through the activation, `up_proj` the half that it is multiplied by. Which is which is found out by
    running the gate on a few numbers.
    """
    assert pair.experts is not None
    stacks = {parameter for parameter, _ in pair.module.facts}
    beside = [name for name, _ in pair.module.shapes if name not in stacks]
    if beside:
        return f"they have {', '.join(beside)} beside their matrices"
    if stacks != {GATED, LAST}:
        return f"their parameters are {', '.join(sorted(stacks))}, not {GATED} and {LAST}"
    if pair.parameter == LAST:
        return tuple(Piece(f"{prefix}.{expert}.{LAST}", expert, None) for expert in range(pair.experts))
    if not _gates_then_ups(_gate_of(experts)):
        return "their gates and ups are not two halves, the gates first"
    half = pair.rows // 2
    rows = ((0, half), (half, pair.rows))
    return tuple(
        Piece(f"{prefix}.{expert}.{name}", expert, own)
        for expert in range(pair.experts)
        for name, own in zip(HALVES, rows, strict=True)
    )


def opened_by_transformers(experts: nn.Module, settings: Any) -> bool:
    """Whether transformers itself takes such experts apart when it opens a compressed-tensors checkpoint.

    Args:
        settings: the model's configuration object.
    """
    from transformers.quantizers import base
    from transformers.utils.quantization_config import QuantizationMethod

    patches = getattr(base, "MODULES_TO_PATCH_FOR_QUANTIZATION", {})
    names = (cls.__name__ for cls in type(experts).__mro__)  # one that mtcore quantized is a subclass
    patch = next((patches[name] for name in names if name in patches), None)
    if patch is None or QuantizationMethod.COMPRESSED_TENSORS not in patch["quantization_methods"]:
        return False
    with torch.device("meta"):
        modules = dict(patch["module_name"](settings.get_text_config()).named_modules())
    return all(f"0.{name}" in modules for name in (*HALVES, LAST))


def _gate_of(experts: nn.Module) -> Gate | None:
    """The gate of the module: what transformers' experts call `_apply_gate`, or what its forward does."""
    own = getattr(experts, "_apply_gate", None)
    if own is not None:
        found: Gate = own
        return found
    if len(inspect.signature(experts.forward).parameters) != 1 or getattr(experts, GATED).dim() != 3:
        return None
    wide = getattr(experts, LAST).shape[
        2
    ]  # such a forward is given the tokens of every expert, and turns no matrix

    def gate(both: Tensor) -> Tensor:
        """One expert with few units in the place of all; its second product hands them on."""
        few = copy.copy(experts)
        first = torch.zeros(1, wide, both.shape[1])
        first[0, 0] = both[0]
        second = torch.eye(both.shape[1] // 2, wide)[None]
        few._parameters = {GATED: nn.Parameter(first, False), LAST: nn.Parameter(second, False)}
        units: Tensor = few(torch.eye(1, wide))
        return units.reshape(1, -1)[:, : both.shape[1] // 2]

    return gate


def _gates_then_ups(gate: Gate | None) -> bool:
    """Whether unit i is made of numbers i and F + i, and vanishes far below zero of the first one alone.

    An activation (SiLU, GELU, ReLU, a sigmoid) lets nothing of a very negative gate through, whatever else is done
    to both halves: clamped, capped, moved by one.
    """
    if gate is None:
        return False
    both = torch.linspace(0.3, 1.1, 2 * _UNITS)[None]
    try:
        units = gate(both)
        for index in range(2 * _UNITS):
            moved = both.clone()
            moved[0, index] += 0.25
            changed = (gate(moved) != units)[0].nonzero().flatten().tolist()
            if changed != [index % _UNITS]:
                return False
        gates, ups = both.chunk(2, dim=-1)
        far = torch.full_like(gates, _FAR)
        left = [gate(torch.cat(pair, dim=-1)).abs() / units.abs() for pair in ((far, ups), (gates, far))]
    except (RuntimeError, TypeError, AttributeError, ValueError):
        return False  # a gate of another kind, whose halves nobody can name
    return bool((left[0] < _NOTHING).all() and (left[1] > _NOTHING).all())
