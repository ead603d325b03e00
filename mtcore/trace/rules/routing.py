"""Routing: while a forward is analysed, the choices of a router are dealt out, so that every expert gets a turn.

What an expert does to labels does not depend on which token it gets, but an expert without a token shows nothing.
Only choices between parameters are dealt out: the alternatives along the axis have labels of their own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtcore.trace.planes import repeats
from mtcore.trace.rules.context import Call
from mtcore.trace.rules.registry import OpRules


def register(rules: OpRules) -> None:
    rules.replace("aten::topk", best_of_parameters)
    rules.replace("aten::argmax", best_of_parameters)


def best_of_parameters(call: Call) -> Tensor | tuple[Tensor, ...] | None:
    """The first rows choose the first alternatives, and so on; None where no parameters are ranked."""
    x = call.args[0]
    count, dim = (call.args[1], call.arg(2, "dim", -1)) if call.name == "aten::topk" else (1, call.arg(1, "dim"))
    shadow = call.shadows.get(id(x))
    if shadow is None or not isinstance(dim, int) or x.dim() == 0:
        return None
    dim %= x.dim()
    if all(repeats(plane, dim) for plane in (*shadow.scale, *shadow.dim)):
        return None
    chosen = dealt_out(x.shape, dim, count)
    if call.name == "aten::topk":
        return x.gather(dim, chosen.to(x.device)), chosen if x.is_meta else chosen.to(x.device)
    chosen = chosen if call.arg(2, "keepdim", False) else chosen.squeeze(dim)
    return chosen if x.is_meta else chosen.to(x.device)


def dealt_out(shape: torch.Size, dim: int, count: int) -> Tensor:
    """int64 indices along `dim`, `count` for each line along it, counting upwards from line to line.

    Example:
        >>> dealt_out(torch.Size([3, 4]), 1, 2).tolist()
        [[0, 1], [2, 3], [0, 1]]
    """
    lead = [n for axis, n in enumerate(shape) if axis != dim]
    start = torch.arange(math.prod(lead)) * count
    rows = (start[:, None] + torch.arange(count)) % shape[dim]
    indices: Tensor = rows.view(*lead, count).movedim(-1, dim)
    return indices
